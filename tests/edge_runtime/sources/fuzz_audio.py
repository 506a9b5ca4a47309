"""`make fuzz-audio`: streams of any format, length, rate, channels and damage; all is processed or a loss reported.

    python -m tests.edge_runtime.sources.fuzz_audio --seconds 60 --seed 1

What must hold of every stream, from a pipe and from a file, with any choice of channels: no exception but an
`EdgeemoError` of one printable line with exit code 1 or 2; no hang; finite samples; all of the audio of undamaged
files; and of damaged ones, no more than `LOST` seconds less than was recorded, unless an error or a notice says so. A
failing stream is written to a file, whose name is printed with the seed of the case.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_runtime.sources.channel_setting import Channels
from tests.edge_runtime.sources.sounds import Heard, encoded, encoded_by_pyav, size_of, sound, with_size

HANG_SECONDS = 60
LOST = 1.3
"""Seconds: the tolerated second, and the delay of codecs."""
ROUGH = 0.25
"""Seconds by which codecs lengthen or shorten each file."""
AUDIBLE, AUDIBLE_SECONDS = 0.02, 1.5
CHANNELS: tuple[Channels, ...] = ("auto", "auto", "mix", (0,), (1,))

UNCOMPRESSED = [
    *(("WAV", each) for each in ("PCM_16", "PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("AU", each) for each in ("PCM_16", "FLOAT", "ULAW")),
    *(("AIFF", each) for each in ("PCM_16", "PCM_24", "FLOAT")),
    *((form, "PCM_16") for form in ("W64", "RF64", "WAVEX")),
]
COMPRESSED = [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)
FEW_RATES = {"MP3": RATES[:6], "OPUS": (8_000, 16_000, 48_000)}
BY_PYAV = (
    ("ipod", "aac", 16_000, {}),
    ("mp4", "aac", 16_000, {"movflags": "frag_keyframe+empty_moov"}),
    ("webm", "libopus", 48_000, {}),
    ("adts", "aac", 16_000, {}),
    ("mpegts", "aac", 16_000, {}),
)
DAMAGES = ("flip", "zero", "noise", "remove", "insert", "cut", "header", "tail", "size")


@dataclass
class Case:
    """A stream of bytes and what is known of it.

    Attributes:
        content: the bytes.
        seconds: of audio that were recorded.
        files: how many were joined.
        damage: what was done to it; empty for nothing.
        channels: the fewest of its files.
        audible: whether each file is long enough that no choice of channels may cancel its sound.
        what: a description.
    """

    content: bytes
    seconds: float
    files: int
    damage: str
    channels: int
    audible: bool
    what: str


class File(NamedTuple):
    """A file, its duration, its channels and its description."""

    content: bytes
    seconds: float
    channels: int
    what: str


def file_of(random: np.random.Generator, *, pyav: bool) -> File:
    """Return a file."""
    seconds = float(random.choice([0.05, 0.5, 1.5, 2.5, 4.0]))
    if pyav and random.random() < 0.15:
        container, codec, rate, options = BY_PYAV[random.integers(len(BY_PYAV))]
        seconds = max(seconds, 0.5)
        return File(encoded_by_pyav(container, codec, rate, options, seconds), seconds, 1, f"{container} {seconds} s")
    kinds = UNCOMPRESSED if random.random() < 0.5 else COMPRESSED
    form, subtype = kinds[random.integers(len(kinds))]
    rates = FEW_RATES.get(subtype, FEW_RATES.get(form, RATES))
    rate = int(rates[random.integers(len(rates))])
    channels = int(random.choice([1, 1, 2] if form in ("MP3", "OGG") else [1, 1, 2, 4, 8]))
    endian = "BIG" if form == "WAV" and random.random() < 0.2 else None
    # Of several channels, the second is as the others, in opposite phase or silent; nothing is drawn for it, so
    # that known seeds stay what they are.
    gain = (1.0, -1.0, 0.0)[random.bit_generator.state["state"]["state"] % 3] if channels > 1 else 1.0
    samples = sound(seconds, rate, channels)
    if gain != 1.0:
        samples[:, 1] *= gain
    content = encoded(samples, rate, form, subtype, endian)
    what = f"{form} {subtype} {endian or ''} {rate} Hz x{channels} (second: {gain:+.0f}) {seconds} s"
    return File(content, seconds, channels, what)


def damaged(content: bytes, damage: str, random: np.random.Generator) -> bytes:
    """Return the content with one damage."""
    data = bytearray(content)
    at = int(random.integers(len(data)))
    count = int(random.choice([1, 4, 64, 1_000, 20_000]))
    part = slice(at, at + count)
    if damage in ("flip", "header"):
        for place in random.integers(
            len(data) if damage == "flip" else 64, size=min(count, 100 if damage == "flip" else 3)
        ):
            bits = int(random.integers(256))
            data[place % len(data)] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, bits])) if damage == "header" else bits
    elif damage == "tail":
        data += random.bytes(count) if random.random() < 0.5 else b"text " * (count // 5)
    else:
        put = {"zero": bytes(len(data[part])), "noise": random.bytes(len(data[part])), "insert": random.bytes(count)}
        data[at : {"cut": len(data), "insert": at}.get(damage, part.stop)] = put.get(damage, b"")
    return bytes(data)


def case_of(seed: int, *, pyav: bool) -> Case:
    """Return the stream of a seed."""
    random = np.random.default_rng(seed)
    count = int(random.choice([1, 1, 1, 2, 3]))
    # Containers of PyAV are read to their end, so that nothing but uncompressed audio is found behind them.
    files = [file_of(random, pyav=pyav and count == 1) for _ in range(count)]
    contents = [file.content for file in files]
    damage = str(random.choice(DAMAGES)) if random.random() < 0.6 else ""
    if damage == "size":
        if contents[0][:4] == b"RIFF" and contents[0][8:12] == b"WAVE":
            size = size_of(contents[0])
            claims = [0, 1, size // 2, size // 2 + 1, size - 1, size + 1, 4 * size, 0x7FFFFFFF, 0xFFFFFFFF]
            contents[0] = with_size(contents[0], int(random.choice(claims)), int(random.choice([0, 0xFFFFFFFF])))
        else:
            damage = ""
    content = b"".join(contents)
    if damage not in ("", "size"):
        content = damaged(content, damage, random)
    what = f"seed {seed}, {damage or 'no damage'}: {' + '.join(file.what for file in files)}"
    audible = all(file.seconds >= AUDIBLE_SECONDS for file in files)
    channels = min(file.channels for file in files)
    return Case(content, sum(file.seconds for file in files), count, damage, channels, audible, what)


def problem_of(case: Case, *, pipe: bool, piece: int, channels: Channels = "auto") -> str:
    """Return what is wrong with the result of a case; empty for nothing."""
    heard = Heard(case.content, pipe=pipe, piece=piece, channels=channels)
    told = bool(heard.error or heard.notices)
    if not np.isfinite(heard.pcm).all():
        return "samples that are not numbers"
    if heard.error and (not heard.error.isprintable() or len(heard.error) > 600 or heard.code not in (1, 2)):
        return f"an error that is no sentence with an exit code: {heard.error!r}"
    if isinstance(channels, tuple) and not case.damage and channels[0] >= case.channels:
        return (
            "" if "cannot be chosen" in heard.error and heard.code == 2 else "a channel that is not there is no error"
        )
    rough = ROUGH * case.files
    if not case.damage and heard.error:
        return f"an error for undamaged files: {heard.error}"
    if not case.damage and abs(heard.seconds - case.seconds) > rough:
        return f"{heard.seconds:.2f} s were heard of {case.seconds:.2f} s"
    if not case.damage and case.audible and channels == "auto" and np.sqrt(np.mean(heard.pcm**2)) < AUDIBLE:
        return "the channels cancel each other"
    # What was cut off is in no file, and bits of a header may name another rate.
    if case.damage not in ("", "cut", "header", "flip", "remove") and not told and heard.seconds < case.seconds - LOST:
        return f"{heard.seconds:.2f} s were heard of {case.seconds:.2f} s, and nothing was said"
    return ""


def check(seed: int, *, pyav: bool, keep: Path | None = None) -> str:
    """Try the case of a seed from a pipe and from a file; return what is wrong, or nothing.

    A hang ends the process with a traceback of its threads.
    """
    case = case_of(seed, pyav=pyav)
    piece = int(np.random.default_rng(seed).choice([1, 100, 1_000, 4_096, 1 << 16]))
    piece = max(piece, len(case.content) // 20_000)
    channels = CHANNELS[np.random.default_rng(seed).integers(len(CHANNELS))]
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
    try:
        for pipe in (True, False):
            try:
                problem = problem_of(case, pipe=pipe, piece=piece, channels=channels)
            except Exception as error:  # any other one is what is looked for
                problem = f"{type(error).__name__}: {error}"
            if problem:
                if keep is not None:
                    (keep / f"case-{seed}").write_bytes(case.content)
                return f"{case.what} (channels {channels}, from a {'pipe' if pipe else 'file'}): {problem}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return ""


def main() -> int:
    """Try cases until the time is over; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pyav = importlib.util.find_spec("av") is not None
    keep = Path(tempfile.mkdtemp(prefix="fuzz-audio-"))
    began, seed, failures = time.monotonic(), options.seed, 0
    while time.monotonic() - began < options.seconds:
        if problem := check(seed, pyav=pyav, keep=keep):
            failures += 1
            print(problem)  # noqa: T201
        seed += 1
    print(f"{seed - options.seed} streams, {failures} failures{f'; see {keep}' if failures else ''}")  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
