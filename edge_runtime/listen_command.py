"""`edgeemo listen`: microphone, file or pipe to events."""

from __future__ import annotations

import importlib.resources
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from edge_runtime.backends import Backend
from edge_runtime.bundles.manifest import Precision
from edge_runtime.config import ListenSettings, parse_settings, read_settings
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.listening import run
from edge_runtime.sinks.open import parse_sink
from edge_runtime.sources.decoding.raw import RawFormat
from edge_runtime.sources.devices import input_devices, server_inputs, what_to_type
from edge_runtime.sources.source_uri import parse_sources


@click.command("listen")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="[NAME=]SOURCE",
    help="mic://, mic://NAME, an audio file or named pipe, an http://, https:// or rtsp:// address, or - for standard "
    "input; repeatable, each with a NAME, which its events carry.  [default: mic://]",
)
@click.option(
    "--channels",
    metavar="CHANNELS",
    help="Which channels are used: auto, mix (the mean of all), left, right, or numbers from 0 on, as 0 or 0,2.  "
    "[default: auto]",
)
@click.option("--paced", is_flag=True, default=None, help="Play a file in real time, not as fast as possible.")
@click.option("--raw-rate", type=int, metavar="HZ", help="Read raw PCM of this rate, without looking for a header.")
@click.option(
    "--raw-format", type=click.Choice(get_args(RawFormat)), help="Encoding of raw PCM.  [default with --raw-...: s16le]"
)
@click.option("--raw-channels", type=int, metavar="N", help="Channels of raw PCM.  [default with --raw-...: 1]")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="SINK",
    help="Where events go; repeatable: stdout, terminal, file:PATH, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC, web, "
    "web://HOST:PORT.  [default: terminal, or stdout if the output is not a terminal]",
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines, as --sink stdout; JSON with --list-devices.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings (TOML); options override them."
)
@click.option("--no-vad", is_flag=True, help="Score all audio, silence included: no voice activity detection.")
@click.option(
    "--hop", type=float, metavar="SECONDS", help="Seconds from one window to the next.  [default: the bundle's]"
)
@click.option("--profile", metavar="NAME", help="Use and update this speaker's profile; see `edgeemo profile`.")
@click.option(
    "--no-speaker-normalisation", is_flag=True, help="Do not adapt to speakers, no profile; overrides --config."
)
@click.option("--record", type=click.Path(path_type=Path), metavar="DIR", help="Write the audio to this directory.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Which graph to run.  [default: INT8 for the backend if present]",
)
@click.option(
    "--backend",
    type=click.Choice(get_args(Backend)),
    help="auto: TensorRT if a CUDA device, tensorrt and pycuda are present, else ONNX Runtime.  [default: auto]",
)
@click.option("--threads", type=click.IntRange(1, 64), metavar="N", help="Threads of the engine.  [default: 1]")
@click.option("--list-devices", is_flag=True, help="List the microphones and exit.")
@click.option("--example-config", is_flag=True, help="Write all settings with their defaults, and exit.")
def listen_command(
    config: Path | None,
    list_devices: bool,
    example_config: bool,
    sources: tuple[str, ...],
    sinks: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Report emotions of a microphone, file or pipe, or of several, until the last source ends or Ctrl-C.

    Without BUNDLE, the installed default bundle is used: four emotions, four languages, for research.

    Audio stays in this process and is written nowhere, except with --record. With --profile, statistics of the
    speaker's recent utterances (numbers, no audio) are kept on this machine; a bundle with a speaker projection pauses
    the profile while another speaker is detected.

    \b
    Examples:
      edgeemo listen
      edgeemo listen BUNDLE --source call.wav --json
      edgeemo listen BUNDLE --sink terminal --sink web --sink file:events.jsonl
      edgeemo listen --source desk=mic://USB --source door=rtsp://camera/stream
      edgeemo listen --config edge.toml
      arecord -f S16_LE -r 16000 -c 1 -t raw | edgeemo listen BUNDLE --source -
    """
    if example_config:
        click.echo(importlib.resources.files("edge_runtime").joinpath("edge.example.toml").read_text(encoding="utf-8"))
        return
    if list_devices:
        devices = input_devices()
        of_server = [device for device in server_inputs(devices) if not device.name.endswith(".monitor")]
        typed = {device: what_to_type(device, devices) for device in (*devices, *of_server)}
        if as_json:
            click.echo(json.dumps([asdict(each) | {"source": source} for each, source in typed.items()], indent=2))
            return
        if not devices:
            console.print("there is no microphone; plug one in, or run edgeemo doctor")
        for device, source in typed.items():
            mark = "*" if device.default else " "
            name = device.name if device.server_source else f"{device.index}: {device.name}"
            click.echo(
                f"{mark} {name} ({device.channels} channels, {device.sample_rate} Hz)  --source {shlex.quote(source)}"
            )
        return
    named = [parse_sink(text) for text in (*sinks, *(["stdout"] if as_json else []))]
    settings = merged(read_settings(config) if config else ListenSettings(), options | parse_sources(sources))
    if named:
        settings = settings.model_copy(update={"sinks": tuple(named)})
    try:
        run(settings, say=console.print)
    except BrokenPipeError:
        # The reader left (`| head`): a normal end. Keep Python from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_PLACES = {
    "bundle": ("bundle",),
    "source": ("source",),
    "sources": ("sources",),
    "channels": ("channels",),
    "paced": ("paced",),
    "record": ("record",),
    "raw_rate": ("raw", "rate"),
    "raw_format": ("raw", "format"),
    "raw_channels": ("raw", "channels"),
    "hop": ("decision", "hop_seconds"),
    "profile": ("speaker", "profile"),
    "precision": ("engine", "precision"),
    "backend": ("engine", "backend"),
    "threads": ("engine", "threads"),
}


def merged(settings: ListenSettings, options: dict[str, Any]) -> ListenSettings:
    """Return settings with the options of the command line applied.

    Raises:
        WrongUseError: they do not fit together.
    """
    content = settings.model_dump(exclude_unset=True)
    for name, other in (("source", "sources"), ("sources", "source")):
        if options.get(name) is not None:
            content.pop(other, None)
    given = {_PLACES[name]: value for name, value in options.items() if name in _PLACES and value is not None}
    if options.get("no_vad"):
        given["vad", "enabled"] = False
    if options.get("no_speaker_normalisation"):
        if options.get("profile") is not None:
            raise WrongUseError("give --profile or --no-speaker-normalisation, not both")
        given.update({("speaker", "profile"): None, ("speaker", "session"): False})
    for (*folders, key), value in given.items():
        place = content
        for folder in folders:
            place = place.setdefault(folder, {})
        place[key] = value
    return parse_settings(
        content, "the command line", {place: f"--{name.replace('_', '-')}" for name, place in _PLACES.items()}
    )
