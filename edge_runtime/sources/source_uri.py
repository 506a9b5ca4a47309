"""Audio sources by their URI."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import checked_name
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.devices import is_device
from edge_runtime.sources.file import FileSource
from edge_runtime.sources.interface import Source
from edge_runtime.sources.microphone import MicrophoneSource
from edge_runtime.sources.network import SCHEMES, NetworkSource, without_password
from edge_runtime.sources.pipe import PipeSource, open_pipe
from edge_runtime.sources.sound_server import server_sources
from edge_runtime.strict_json import shown

MICROPHONE = "mic://"
_FORMS = "mic://, mic://NAME, file://PATH, a path, an address (http://, https://, rtsp://), or -"


def open_source(
    uri: os.PathLike[str] | str | bytes, *, paced: bool = False, channels: Channels = "auto", raw: RawPcm | None = None
) -> Source:
    """Open a source by its URI.

    Args:
        uri: ``mic://``, ``mic://NAME``, ``file://PATH``, a path (also of a named pipe; text or bytes), ``http://``,
            ``https://`` or ``rtsp://`` with an address, or ``-`` for standard input.
        paced: play a file in real time.
        channels: which channels are used.
        raw: how to read a file or pipe without a header; no format is recognised then.

    Names of devices of ALSA, PulseAudio and PipeWire, such as ``hw:1,0``, need no ``mic://``.

    Raises:
        WrongUseError: an unknown scheme, ``paced`` or ``raw`` for a source that they do not fit, or a channel that is
            not there.
        EdgeemoError: the file or device cannot be opened.
    """
    if not isinstance(uri, (str, bytes, os.PathLike)):
        kind = type(uri).__name__
        raise WrongUseError(
            f"a source is text or a path, not {kind}; for samples, use edge_runtime.load().stream(rate)"
        )
    uri = os.fsdecode(uri)
    file = source_file(uri, paced=paced)
    if file is not None and is_pipe(file):
        if paced:
            raise WrongUseError("--paced is for files only; leave it out for a microphone, a pipe or an address")
        return open_pipe(file, channels=channels, raw=raw)
    if file is not None:
        return FileSource(file, paced=paced, channels=channels, raw=raw)
    if uri == "-":
        return PipeSource(channels=channels, raw=raw)
    if raw is not None:
        raise WrongUseError("--raw-rate, --raw-format and --raw-channels are for files and pipes; leave them out here")
    if uri.lower().startswith(SCHEMES):
        return NetworkSource(uri, channels=channels)
    # Not parsed as a URL, which names such as "Mic #1 [USB] (hw:1,0)" are not.
    return MicrophoneSource(uri.removeprefix(MICROPHONE), channels=channels)


def parse_sources(texts: Sequence[str]) -> dict[str, Any]:
    """Return the texts of ``--source`` as the settings ``source``, for one without a name, or ``sources``.

    A text with ``=`` is ``NAME=SOURCE``, unless it is a file or another source by itself.

    Raises:
        WrongUseError: one of several has no name, or two have the same.
    """
    split = [_named(text) for text in texts]
    if len(texts) == 1 and split[0] is None:
        return {"source": texts[0]}
    sources: dict[str, str] = {}
    for text, pair in zip(texts, split, strict=True):
        if pair is None:
            raise WrongUseError(
                f"--source {shown(without_password(text))}: of several sources each needs a name: --source NAME=SOURCE"
            )
        name, source = pair
        if name in sources:
            raise WrongUseError(f"--source: two sources are called {name}; give each its own name")
        sources[name] = source
    return {"sources": sources} if sources else {}


def _named(text: str) -> tuple[str, str] | None:
    name, equals, source = text.partition("=")
    if not equals or Path(text).exists():
        return None
    try:
        return checked_name(name), source
    except ValueError:
        return None


def is_pipe(path: Path) -> bool:
    """Whether a path names a pipe, a socket or a device such as ``/dev/stdin``, which have no length."""
    return path.exists() and not path.is_file() and not path.is_dir()


def source_file(uri: str, *, paced: bool = False) -> Path | None:
    """Return the file or pipe of a URI, which may not exist; None for a microphone, an address or standard input.

    Raises:
        WrongUseError: an unknown scheme, or ``paced`` for a microphone or pipe.
        EdgeemoError: it names a directory.
    """
    if uri == "-" or uri.startswith(MICROPHONE) or uri.lower().startswith(SCHEMES):
        if paced:
            raise WrongUseError("--paced is for files only; leave it out for a microphone, a pipe or an address")
        return None
    if uri in ("", "file://"):
        raise WrongUseError(f"--source '{uri}': names nothing; use {_FORMS}")
    local = os.fsdecode(unquote_to_bytes(os.fsencode(uri.removeprefix("file://"))))
    path = Path(local) if uri.startswith("file://") else Path(uri)
    if path.is_dir():
        raise EdgeemoError(f"{path}: is a directory; name an audio file")
    if path.exists() or uri.startswith("file://"):
        return path
    if _names_device(uri):
        return source_file(f"{MICROPHONE}{uri}", paced=paced)
    _refuse_other_schemes(uri)
    return path


def _refuse_other_schemes(uri: str) -> None:
    """Refuse a source that names no file and has a scheme, or one that is written wrongly; never repeat a password."""
    scheme, colon, rest = uri.partition(":")
    if scheme.lower() == "mic" and (colon or not rest):
        name = rest.lstrip("/")
        raise WrongUseError(f"--source {shown(uri)}: did you mean mic://{shown(name)}? There is no file of that name")
    if scheme.lower() == "file" and colon:
        raise WrongUseError(f"--source {shown(uri)}: did you mean {shown(rest)}? There is no file of that name")
    if f"{scheme.lower()}://" in SCHEMES and colon:
        raise WrongUseError(f"--source {scheme}:…: write an address as {scheme.lower()}://HOST/FILE")
    if "://" in uri:
        raise WrongUseError(f"--source {shown(without_password(uri))}: use {_FORMS}")


def _names_device(uri: str) -> bool:
    """Return whether a source that is no file names a device of ALSA or a source of the sound server.

    Raises:
        WrongUseError: it nearly does.
    """
    if is_device(uri):
        return True
    if os.sep in uri or ":" in uri:
        return False
    of_server = [source.name for source in server_sources()]
    near = difflib.get_close_matches(uri, of_server, 1)
    if near and uri not in of_server:
        raise WrongUseError(f"--source {shown(uri)}: did you mean {shown(near[0])}? There is no file of that name")
    return bool(near)
