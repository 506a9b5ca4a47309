"""Unlabelled speech for the default bundle: ``python -m benchmarks.lab.prompts OUT``.

The Debian packages ``asterisk-core-sounds-*-g722`` hold announcements of telephone systems: studio recordings of five
people in five languages, 16 kHz, under Creative Commons licences. The encoder of the default bundle is distilled on
them alone, so it has processed no tested corpus, and is the same one whatever corpus is left out.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import soundfile

from edge_runtime.errors import EdgeemoError, Tool, WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

PACKAGES = tuple(f"asterisk-core-sounds-{language}-g722" for language in ("en", "es", "fr", "it", "ru"))
SHORTEST, LONGEST = 1.2, 12.0
"""Seconds: single digits and letters are left out, and so are whole menus."""
FACTS = {
    "name": "prompts",
    "kind": "recorded",
    "licence": "CC-BY-SA-3.0 (Russian CC-BY-3.0)",
    "note": "Neutral announcements by one speaker of each of five languages, coded with G.722.",
    "citation": "Asterisk core sounds, Digium and others, https://downloads.asterisk.org/pub/telephony/sounds/",
}


@click.command("prompts", cls=Tool)
@click.argument("out", type=click.Path(path_type=Path))
@needs_extra("decode")
def main(out: Path) -> None:
    """Download recorded announcements as Debian packages, and write them into the new directory OUT as a corpus.

    It needs apt-get and dpkg-deb, and installs nothing.

    \b
    Example:
      python -m benchmarks.lab.prompts prompts
    """
    if out.exists():
        raise WrongUseError(f"{out}: exists already; name another directory or remove it")
    with tempfile.TemporaryDirectory() as place:
        packages = Path(place)
        _run(["apt-get", "download", *PACKAGES], packages)
        for package in sorted(packages.glob("*.deb")):
            _run(["dpkg-deb", "--extract", package.name, "files"], packages)
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        count = write_corpus(packages / "files", part)
        part.rename(out)
    click.echo(f"{out}: {count} recordings")


def write_corpus(files: Path, out: Path) -> int:
    """Write all recordings of fitting length below ``files`` as a corpus, and return how many there are.

    The manifest has no speakers: in training, each recording is a session of its own, with its own room and voice.
    """
    rows = []
    for path, pcm in _recordings(files):
        # sounds/en_US_f_Allison/digits/1.g722
        *folders, _ = path.relative_to(files).with_suffix("").parts
        voice = next(name for name in folders if name[2:3] == "_")
        name = "-".join((*folders[folders.index(voice) :], path.stem)) + ".flac"
        out.mkdir(parents=True, exist_ok=True)
        soundfile.write(out / name, pcm, SAMPLE_RATE, subtype="PCM_16")
        rows.append((name, voice[:2]))
    if not rows:
        raise EdgeemoError(f"{files}: holds no recording in G.722 of {SHORTEST} to {LONGEST:g} s")
    with (out / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("file", "language"), *rows])
    (out / "corpus.json").write_text(json.dumps(FACTS, indent=2) + "\n", encoding="utf-8")
    return len(rows)


def _recordings(files: Path) -> Iterator[tuple[Path, Pcm]]:
    import av

    for path in sorted(files.rglob("*.g722")):
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
        pcm = np.concatenate(frames).astype(np.float32) / 32_768 if frames else np.zeros(0, np.float32)
        if SHORTEST <= len(pcm) / SAMPLE_RATE <= LONGEST:
            yield path, pcm


def _run(command: list[str], where: Path) -> None:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EdgeemoError(f"{command[0]}: is missing; these recordings come as Debian packages") from error
    if done.returncode:
        raise EdgeemoError(f"{' '.join(command[:2])}: failed: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
