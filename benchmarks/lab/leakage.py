"""How well copies of recordings are found: `python -m benchmarks.lab.leakage --corpus NAME=PATH …`.

Writes ``benchmarks/results/leakage.csv``: for each corpus and each pair of corpora, how many pairs of recordings were
compared and how many of them count as copies, of one speaker or of two; then, for each disguise, how many of some
recordings are found again among all, by their fingerprints and by the sketches of `distill/checks/training_speech.py`.
"""

from __future__ import annotations

import csv
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr

from benchmarks.lab.options import RESULTS
from distill.checks.audio_scan import scan
from distill.checks.corpus_checks import scan_corpus
from distill.checks.fingerprint import Fingerprint
from distill.checks.same_recording import Recording, copies
from distill.checks.training_speech import sketches_of
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.files import write_text
from edge_runtime.parameters import count_option
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio

COLUMNS = ("what", "pairs", "found", "seconds")
_CUT = round(0.3 * SAMPLE_RATE)

Disguise = Callable[[Pcm, Path], None]


def _coded(form: str, subtype: str, compression: float | None = None, rate: int = SAMPLE_RATE) -> Disguise:
    """Return what writes a waveform in a format, at a rate."""

    def write(pcm: Pcm, path: Path) -> None:
        level = {} if compression is None else {"compression_level": compression}
        samples = pcm if rate == SAMPLE_RATE else soxr.resample(pcm, SAMPLE_RATE, rate)
        soundfile.write(path, samples, rate, format=form, subtype=subtype, **level)

    return write


_WAV = _coded("WAV", "PCM_16")
_TELEPHONE = _coded("WAV", "ULAW", rate=8_000)
DISGUISES: dict[str, Disguise] = {
    "MP3, lowest quality": _coded("MP3", "MPEG_LAYER_III", 0.9),
    "Opus, lowest quality": _coded("OGG", "OPUS", 0.95),
    "mu-law, 8 kHz": _TELEPHONE,
    "8 kHz": _coded("WAV", "PCM_16", rate=8_000),
    "48 kHz": _coded("WAV", "PCM_16", rate=48_000),
    "20 dB softer": lambda pcm, path: _WAV(0.1 * pcm, path),
    "0.3 s cut at both ends": lambda pcm, path: _WAV(pcm[_CUT:-_CUT], path),
    "cut, 10 dB softer, mu-law": lambda pcm, path: _TELEPHONE(0.3 * pcm[_CUT + 123 : -_CUT], path),
    "white noise, 20 dB": lambda pcm, path: _WAV(
        pcm + 0.1 * pcm.std() * np.random.default_rng(0).standard_normal(len(pcm)), path
    ),
}


@click.command("leakage", cls=Tool)
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Speech.")
@count_option("--sample", "Recordings to disguise.", default=200)
@count_option("--workers", "Processes that decode audio.  [default: one a core]")
def main(corpora: tuple[NamedPath, ...], sample: int, workers: int | None) -> None:
    """Compare all recordings of some corpora with each other, then with disguised ones."""
    # An empty cache, so that decoding is measured.
    with tempfile.TemporaryDirectory() as cache:
        _measure(corpora, sample, workers, Path(cache))


def _measure(corpora: Sequence[NamedPath], sample: int, workers: int | None, cache: Path) -> None:
    known: dict[str, list[Recording]] = {}
    started = time.monotonic()
    for each in corpora:
        speech = read_corpus(each.path, name=each.name)
        scan_corpus(speech, cache, workers=workers)
        known[speech.facts.name] = _recordings([item.path for item in speech.utterances], cache)
    rows = [("decoded and fingerprinted", "", "", f"{time.monotonic() - started:.1f}"), *_compared(known)]
    rows += _disguised([one for group in known.values() for one in group], sample, cache)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    write_text(RESULTS / "leakage.csv", text.getvalue())
    console.print(text.getvalue())


def _recordings(paths: Sequence[Path], cache: Path) -> list[Recording]:
    """Return recordings that are all compared with each other."""
    return [
        Recording(path, Fingerprint.decode(found.fingerprint), found.content, str(path))
        for path, found in zip(paths, scan(paths, cache, workers=1), strict=True)
    ]


def _compared(known: dict[str, list[Recording]]) -> Iterator[tuple[str, str, str, str]]:
    for name, group in known.items():
        started = time.monotonic()
        found = sum(len(same) * (len(same) - 1) // 2 for same in copies(group))
        pairs = len(group) * (len(group) - 1) // 2
        yield name, str(pairs), str(found), f"{time.monotonic() - started:.1f}"
    for (one, first), (other, second) in itertools.combinations(known.items(), 2):
        started = time.monotonic()
        both = [each._replace(part=one) for each in first] + [each._replace(part=other) for each in second]
        found = 0
        for same in copies(both):
            left = sum(number < len(first) for number in same)
            found += left * (len(same) - left)
        pairs = len(first) * len(second)
        yield f"{one} and {other}", str(pairs), str(found), f"{time.monotonic() - started:.1f}"


def _disguised(known: list[Recording], sample: int, cache: Path) -> Iterator[tuple[str, str, str, str]]:
    trained = sketches_of([each.path for each in known], cache)
    chosen = np.random.default_rng(0).permutation(len(known))[:sample]
    for name, disguise in DISGUISES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.audio" for number in chosen]
            for path, number in zip(paths, chosen, strict=True):
                disguise(read_audio(known[number].path), path)
            hidden = [each._replace(part="hidden") for each in _recordings(paths, Path(folder))]
            started = time.monotonic()
            groups = copies([*(each._replace(part="known") for each in known), *hidden])
            seconds = time.monotonic() - started
            shared = (sketches_of(paths, Path(folder))[:, None] == trained).any(axis=2).any(axis=1)
        pairs = {(one, other - len(known)) for same in groups for one in same for other in same if other >= len(known)}
        found = sum((int(number), place) in pairs for place, number in enumerate(chosen))
        compared = str(len(known) * len(chosen))
        yield f"{name}: copies of {len(chosen)}", compared, str(found), f"{seconds:.1f}"
        yield f"{name}: by the sketches of a bundle", compared, str(int(shared.sum())), ""


if __name__ == "__main__":
    main()
