"""What an encoder is distilled from: hidden states of the original encoder on clean speech, computed once and kept.

The student's input may be degraded (rooms, noise, channels) while the teacher's never is, so the teacher's states do
not depend on the epoch. Each utterance is processed in several voices: as recorded, and at the speed of other sessions
(`distill.speech.degraded_speech`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch.nn import functional

from distill.caching.arrays import Rows, write_array
from distill.caching.contents import contents_of
from distill.caching.source_digest import AUDIO, source_digest
from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.encoders.pooling import pool_states
from distill.evaluation.metrics import Floats, Ints
from distill.speech.audio_data import Item, collate_windows
from distill.speech.degraded_speech import Voices
from distill.training import processes
from distill.training.frozen_statistics import digest_of_weights
from edge_runtime import __version__
from edge_runtime.console import advance, progress_bar
from edge_runtime.files import digest_of, locked, replacing
from edge_runtime.sources.audio import Pcm

SOURCES = (__name__, "distill.encoders", "distill.speech", *AUDIO)
"""The code that states depend on: they are computed again after a change to it."""
_BATCH = 8
_LARGEST = 32_767

Half = npt.NDArray[np.float16]


class Target(NamedTuple):
    """What a student's encoder is to match for one utterance in one voice.

    Attributes:
        pcm: ``[S]`` the clean waveform, at a peak of 1: encoders normalise the level.
        states: ``[T, L H]`` hidden states of all teacher layers, side by side, at the student's frames.
        statistics: ``[F L H]`` their means over each choice of frames, of all of the teacher's frames.
    """

    pcm: Pcm
    states: Half
    statistics: Floats


class _Files(NamedTuple):
    """The files of one voice; the last one is written last.

    Attributes:
        pcm: waveforms, 16 bit.
        places: ``[N, 4]``, first and last sample and first and last frame of each utterance.
        statistics: ``[N, M]``.
        states: half precision.
    """

    pcm: Path
    places: Path
    statistics: Path
    states: Path


class TeacherStates:
    """Targets of utterances, on disk.

    Args:
        files: of each voice.
        numbers: the number of each audio file in them.
        width: L H.
    """

    def __init__(self, files: Sequence[_Files], numbers: dict[Path, int], width: int) -> None:
        self._files = files
        self._places: list[Ints] = [np.load(each.places) for each in files]
        self._statistics = [Rows(each.statistics) for each in files]
        self._numbers = numbers
        self.width = width

    def of(self, item: Utterance, voice: int) -> Target:
        """Return the target of one utterance; voice 0 is as recorded."""
        number, files = self._numbers[item.path], self._files[voice]
        first, last, start, end = (int(each) for each in self._places[voice][number])
        pcm = np.fromfile(files.pcm, np.int16, last - first, offset=2 * first)
        count = (end - start) * self.width
        states = np.fromfile(files.states, np.float16, count, offset=2 * start * self.width)
        return Target(
            np.asarray(pcm / _LARGEST, np.float32),
            states.reshape(-1, self.width),
            self._statistics[voice][number],
        )


def teacher_states(
    teacher: SpeechEncoder,
    layers: Sequence[int],
    frames: Sequence[str],
    every: int,
    utterances: Sequence[Utterance],
    voices: Voices,
    cache: Path,
    lead: int = 0,
) -> TeacherStates:
    """Return the targets of utterances, from the cache where the same teacher has processed them before.

    Args:
        teacher: the original encoder.
        layers: the layers to match.
        frames: over which frames statistics are taken.
        every: the student has every so many of the teacher's frames.
        utterances: a whole corpus, so that all folds share what is computed.
        voices: in which the utterances are processed.
        cache: directory of the cache; an hour of speech takes 300 MB a voice for two layers of 512 at 25 frames a
            second.
        lead: zeros before each waveform, as before the first chunk of a student that encodes in chunks: its frames are
            the student's then.

    Raises:
        EdgeemoError: a file cannot be read, or the cache cannot be written.
    """
    root = cache / "teacher-states"
    facts = {
        "weights": digest_of_weights(teacher),
        "layers": list(layers),
        "frames": list(frames),
        "every": every,
        "utterances": list(zip(contents_of(utterances), [item.speaker for item in utterances], strict=True)),
        "speed": voices.speed,
        "samples": voices.samples,
        "versions": [__version__, torch.__version__, transformers.__version__],
        "code": source_digest(*SOURCES),
    } | ({"lead": lead} if lead else {})
    found = []
    for voice in range(voices.count):
        name = digest_of(facts | {"voice": voice}, 24)
        endings = ("pcm.i16", "places.npy", "statistics.npy", "states.f16")
        files = _Files(*(root / f"{name}.{ending}" for ending in endings))

        def compute(files: _Files = files, voice: int = voice) -> None:
            # Two runs that want the same states at once: one computes them, the other waits.
            with locked(files.states.with_suffix(".lock")):
                if not files.states.is_file():
                    _write(teacher, layers, frames, every, utterances, voices, voice, files, lead)

        processes.by_first(compute)
        found.append(files)
    numbers = {item.path: number for number, item in enumerate(utterances)}
    return TeacherStates(found, numbers, len(layers) * teacher.hidden_size)


def _write(
    teacher: SpeechEncoder,
    layers: Sequence[int],
    frames: Sequence[str],
    every: int,
    utterances: Sequence[Utterance],
    voices: Voices,
    voice: int,
    files: _Files,
    lead: int,
) -> None:
    teacher.eval()
    device = next(teacher.parameters()).device
    # In the order of their length, so that batches have little padding.
    order = sorted(range(len(utterances)), key=lambda number: utterances[number].seconds)
    places: Ints = np.zeros((len(utterances), 4), np.int64)
    statistics: dict[int, Floats] = {}
    samples = frame = 0
    title = f"original encoder, voice {voice + 1} of {voices.count}"
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        bar = stack.enter_context(progress_bar(title, total=len(order)))
        states_part, pcm_part = (stack.enter_context(replacing(path)) for path in (files.states, files.pcm))
        states_stream, pcm_stream = (stack.enter_context(part.open("wb")) for part in (states_part, pcm_part))
        for first in range(0, len(order), _BATCH):
            numbers = order[first : first + _BATCH]
            batch = collate_windows([Item(voices.of(utterances[number], voice), 0, {}) for number in numbers])
            pcm, lengths = batch["pcm"].to(device), batch["lengths"].to(device)
            led = functional.pad(pcm, (lead, 0))
            states, valid = teacher(led, lengths + lead)
            assert valid is not None
            pooled = pool_states(teacher, states, valid, led, layers, frames, deviation=False).cpu().numpy()
            for row, number in enumerate(numbers):
                waveform = batch["pcm"][row, : int(lengths[row])].numpy()
                peak = max(float(np.abs(waveform).max()), 1e-9)
                pcm_stream.write(np.rint(waveform / peak * _LARGEST).astype(np.int16).tobytes())
                block = torch.cat([states[layer][row][valid[row]][::every].cpu() for layer in layers], dim=1)
                states_stream.write(block.numpy().astype(np.float16).tobytes())
                places[number] = samples, samples + len(waveform), frame, frame + len(block)
                samples, frame = samples + len(waveform), frame + len(block)
                statistics[number] = pooled[row]
            advance(bar, len(numbers))
        write_array(files.places, places)
        write_array(files.statistics, np.stack([statistics[number] for number in range(len(order))]))
