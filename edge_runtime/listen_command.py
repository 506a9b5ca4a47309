"""`edgeemo listen`: microphone, file or pipe to events."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import get_args
from urllib.parse import unquote, urlparse

import click

from edge_runtime.backends import Backend, open_engine
from edge_runtime.bundle import load_bundle
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.listener import Listener
from edge_runtime.manifest import Precision
from edge_runtime.microphone import MicrophoneSource, input_devices
from edge_runtime.sinks.interface import Sink
from edge_runtime.sinks.json_lines import JsonLines
from edge_runtime.sinks.live_line import LiveLine
from edge_runtime.sources import FileSource, PipeSource, Source


@click.command("listen")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--source", default="mic://", show_default=True, help="mic://, mic://NAME, an audio file, or - for a pipe."
)
@click.option("--paced", is_flag=True, help="Play a file at the speed of time instead of as fast as it goes.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on standard output (the default when piped).")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Which graph to run; the INT8 one for the backend if there.",
)
@click.option(
    "--backend",
    type=click.Choice(get_args(Backend)),
    default="auto",
    show_default=True,
    help="auto: TensorRT where a CUDA device, tensorrt and pycuda are, else ONNX Runtime.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads of the engine.")
@click.option("--list-devices", is_flag=True, help="List the microphones and leave.")
def listen_command(
    bundle: Path | None,
    source: str,
    paced: bool,
    as_json: bool,
    precision: Precision | None,
    backend: Backend,
    threads: int,
    list_devices: bool,
) -> None:
    r"""Listen and report emotions, until the source ends or Ctrl-C.

    \b
    Examples:
      edgeemo listen BUNDLE
      edgeemo listen BUNDLE --source call.wav --json
      arecord -f S16_LE -r 16000 -c 1 -t raw | edgeemo listen BUNDLE --source -
    """
    if list_devices:
        for device in input_devices():
            mark = "*" if device.default else " "
            click.echo(f"{mark} {device.index}: {device.name} ({device.channels} channels, {device.sample_rate} Hz)")
        return
    if bundle is None:
        raise WrongUseError("name the bundle to run: edgeemo listen BUNDLE (make one with: edgeemo export)")
    loaded = load_bundle(bundle)
    engine = open_engine(loaded, backend, precision, threads=threads, say=console.print)
    opened = open_source(source, paced=paced)
    _stop_on_signals(opened)
    sink: Sink = JsonLines(sys.stdout) if as_json or not sys.stdout.isatty() else LiveLine()
    if isinstance(sink, LiveLine):
        console.print(f"{engine.backend}, bundle {loaded.hash[:12]}; stop with Ctrl-C")
    try:
        with sink:
            for event in Listener(loaded, engine).listen(opened):
                sink.emit(event)
    except BrokenPipeError:
        # The reader left (`| head`): a normal end. Keep Python from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        engine.close()


def open_source(uri: str, *, paced: bool) -> Source:
    """Open what ``--source`` names.

    Raises:
        WrongUseError: an unknown scheme.
        EdgeemoError: the file or device cannot be opened.
    """
    if uri == "-":
        return PipeSource()
    if uri.startswith("mic://"):
        # Not parsed as a URL: names such as "Mic #1 [USB] (hw:1,0)" would not survive it.
        return MicrophoneSource(uri.removeprefix("mic://"))
    if uri.startswith("file://"):
        return FileSource(Path(unquote(urlparse(uri).path)), paced=paced)
    if "://" in uri:
        raise WrongUseError(f"--source {uri}: use mic://, mic://NAME, file://PATH, a path, or -")
    return FileSource(Path(uri), paced=paced)


def _stop_on_signals(source: Source) -> None:
    """Let SIGINT and SIGTERM end the source, so that the last final event still comes; a second one kills."""

    def stop(number: int, _frame: FrameType | None) -> None:
        source.close()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
