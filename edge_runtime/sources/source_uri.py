"""Audio sources by their URI."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from urllib.parse import unquote

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.devices import is_device
from edge_runtime.sources.interface import FileSource, Source
from edge_runtime.sources.microphone import MicrophoneSource
from edge_runtime.sources.pipe import PipeSource
from edge_runtime.sources.sound_server import server_sources
from edge_runtime.strict_json import shown

MICROPHONE = "mic://"
_FORMS = "mic://, mic://NAME, file://PATH, a path, or -"


def open_source(uri: os.PathLike[str] | str, *, paced: bool = False, channels: Channels = "auto") -> Source:
    """Open ``mic://``, ``mic://NAME``, ``file://PATH``, a path, or ``-`` for standard input.

    Names of devices of ALSA, PulseAudio and PipeWire, such as ``hw:1,0``, need no ``mic://``.

    Raises:
        WrongUseError: an unknown scheme, ``paced`` for a microphone or pipe, or a channel that is not there.
        EdgeemoError: the file or device cannot be opened.
    """
    uri = os.fspath(uri)
    file = source_file(uri, paced=paced)
    if file is not None:
        return FileSource(file, paced=paced, channels=channels)
    # Not parsed as a URL, which names such as "Mic #1 [USB] (hw:1,0)" are not.
    if uri == "-":
        return PipeSource(channels=channels)
    return MicrophoneSource(uri.removeprefix(MICROPHONE), channels=channels)


def source_file(uri: str, *, paced: bool = False) -> Path | None:
    """Return the file of a URI, which may not exist; None for a microphone or standard input.

    Raises:
        WrongUseError: an unknown scheme, or ``paced`` for a microphone or pipe.
        EdgeemoError: it names a directory.
    """
    if uri == "-" or uri.startswith(MICROPHONE):
        if paced:
            raise WrongUseError("--paced is for files only; leave it out for a microphone or pipe")
        return None
    is_url = uri.startswith("file://")
    path = Path(unquote(uri.removeprefix("file://"), errors="surrogateescape") if is_url else uri)
    if uri in ("", "file://"):
        raise WrongUseError(f"--source '{uri}': names nothing; use {_FORMS}")
    if path.is_dir():
        raise EdgeemoError(f"{path}: is a directory; name an audio file")
    if path.is_file() or is_url:
        return path
    if _names_device(uri, path):
        return source_file(f"{MICROPHONE}{uri}", paced=paced)
    scheme, colon, rest = uri.partition(":")
    if scheme.lower() == "mic" and (colon or not rest):
        name = rest.lstrip("/")
        raise WrongUseError(f"--source {shown(uri)}: did you mean mic://{shown(name)}? There is no file of that name")
    if scheme.lower() == "file" and colon:
        raise WrongUseError(f"--source {shown(uri)}: did you mean {shown(rest)}? There is no file of that name")
    if "://" in uri:
        raise WrongUseError(f"--source {shown(uri)}: use {_FORMS}")
    return path


def _names_device(uri: str, path: Path) -> bool:
    """Return whether a source that is no file names a device of ALSA or a source of the sound server.

    Raises:
        WrongUseError: it nearly does.
    """
    if is_device(uri):
        return True
    if os.sep in uri or ":" in uri or path.exists():
        return False
    of_server = [source.name for source in server_sources()]
    near = difflib.get_close_matches(uri, of_server, 1)
    if near and uri not in of_server:
        raise WrongUseError(f"--source {shown(uri)}: did you mean {shown(near[0])}? There is no file of that name")
    return bool(near)
