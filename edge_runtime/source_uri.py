"""Open the source that a URI names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from edge_runtime.errors import WrongUseError
from edge_runtime.microphone import MicrophoneSource
from edge_runtime.pipe import PipeSource
from edge_runtime.sources import FileSource, Source


def open_source(uri: str, *, paced: bool = False) -> Source:
    """Open ``mic://``, ``mic://NAME``, ``file://PATH``, a path, or ``-`` for standard input.

    Args:
        uri: the name.
        paced: play a file at the speed of time.

    Raises:
        WrongUseError: an unknown scheme, or a pace for what has its own.
        EdgeemoError: the file or device cannot be opened.
    """
    if paced and (uri == "-" or uri.startswith("mic://")):
        raise WrongUseError("--paced is for files: a microphone and a pipe come at their own pace")
    if uri == "-":
        return PipeSource()
    if uri.startswith("mic://"):
        # Not parsed as a URL: names such as "Mic #1 [USB] (hw:1,0)" would not survive it.
        return MicrophoneSource(uri.removeprefix("mic://"))
    if uri.startswith("file://"):
        return FileSource(Path(unquote(uri.removeprefix("file://"))), paced=paced)
    if "://" in uri:
        raise WrongUseError(f"--source {uri}: use mic://, mic://NAME, file://PATH, a path, or -")
    return FileSource(Path(uri), paced=paced)
