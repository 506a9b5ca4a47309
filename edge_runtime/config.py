"""Settings of `edgeemo listen`: the schema of ``--config edge.toml``; options of the command override them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)

from edge_runtime.backends import Backend
from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import EdgeemoError, WrongUseError, next_step
from edge_runtime.files import checked_name
from edge_runtime.settings_errors import wrong_settings
from edge_runtime.sources.channel_setting import Channels, parse_channels
from edge_runtime.sources.decoding.raw import RawFormat, RawPcm
from edge_runtime.sources.devices import is_device
from edge_runtime.strict_json import shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Settings(BaseModel):
    # A traceback includes pydantic's error, and the input in it may be a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


_Part = TypeVar("_Part", bound=_Settings)


class EngineSettings(_Settings):
    """Engine and graph.

    Attributes:
        backend: ``auto`` takes TensorRT where a CUDA device, tensorrt and pycuda are.
        precision: which graph; by default the best for the backend.
        threads: threads within one operator.
    """

    backend: Backend = "auto"
    precision: Precision | None = None
    threads: int = Field(default=1, ge=1, le=64)


class VadSettings(_Settings):
    """Voice activity detection (`edge_runtime/loop/vad.py`), with the names of Silero VAD; durations in seconds.

    Attributes:
        enabled: if false, all audio is scored, silence included.
        threshold: probability of speech at which speech starts.
        neg_threshold: probability below which it may end; not above ``threshold``.
        min_speech_duration: shorter speech is ignored.
        min_silence_duration: speech ends after this much silence.
        speech_pad: audio before and after the speech that is scored with it.
    """

    enabled: bool = True
    threshold: float = Field(default=0.5, gt=0, lt=1)
    neg_threshold: float = Field(default=0.35, gt=0, lt=1)
    min_speech_duration: float = Field(default=0.25, ge=0.0, le=5.0)
    min_silence_duration: float = Field(default=0.6, ge=0.05, le=5.0)
    speech_pad: float = Field(default=0.2, ge=0.0, le=2.0)

    @model_validator(mode="after")
    def _in_order(self) -> VadSettings:
        if self.neg_threshold > self.threshold:
            raise ValueError("must satisfy neg_threshold <= threshold")
        if self.speech_pad > self.min_silence_duration:
            raise ValueError("must satisfy speech_pad <= min_silence_duration")
        return self


class DecisionSettings(_Settings):
    """Hysteresis of provisional labels (`edge_runtime/loop/hysteresis.py`).

    Attributes:
        smoothing: weight of the past in the running mean of the probabilities; 0 uses each window by itself.
        margin: lead in probability that a new label needs over the provisional one.
        patience: consecutive windows in which it needs this lead.
        hop_seconds: time from one window to the next; by default the bundle's.
    """

    smoothing: float = Field(default=0.5, ge=0.0, lt=1.0)
    margin: float = Field(default=0.05, ge=0.0, lt=1.0)
    patience: int = Field(default=2, ge=1, le=20)
    hop_seconds: float | None = Field(default=None, ge=0.1, le=10.0)


class SpeakerSettings(_Settings):
    """Adaptation to speakers (`edge_runtime/speakers/speaker.py`).

    Attributes:
        profile: name of the speaker's profile; created if missing, paused while another speaker is detected.
        session: adapt to speakers without a profile too, in memory. By default, where the bundle has a speaker
            projection.
    """

    profile: Annotated[str, AfterValidator(checked_name)] | None = None
    session: bool | None = None


class WatchSettings(_Settings):
    """When missing sound is reported.

    Attributes:
        silence_seconds: duration of digital silence.
        no_audio_seconds: duration without frames.
    """

    silence_seconds: float = Field(default=10.0, gt=0)
    no_audio_seconds: float = Field(default=3.0, gt=0)


class RawSettings(_Settings):
    """Raw PCM without a header, from a file or a pipe; with this table, no format is recognised.

    Attributes:
        rate: samples per second.
        format: encoding of the samples, with ffmpeg's names.
        channels: channels, interleaved.
    """

    rate: int = Field(default=16_000, ge=1_000, le=768_000)
    format: RawFormat = "s16le"
    channels: int = Field(default=1, ge=1, le=64)

    def as_pcm(self) -> RawPcm:
        """Return it for `open_source`."""
        return RawPcm(self.rate, self.format, self.channels)


class ServiceSettings(_Settings):
    """Limits on the use of the device.

    Attributes:
        nice: nice level; 0 changes nothing.
        memory_mb: resident memory beyond which the process ends with exit code 1, to be restarted.
    """

    nice: int = Field(default=0, ge=0, le=19)
    memory_mb: int | None = Field(default=None, ge=64)


class StdoutSink(_Settings):
    """JSON lines on standard output."""

    kind: Literal["stdout"] = "stdout"


class TerminalSink(_Settings):
    """A live view on standard error."""

    kind: Literal["terminal"] = "terminal"


class FileSink(_Settings):
    """JSON lines in a rotated file.

    Attributes:
        path: the file; older ones are ``path.1`` (the newest), ``path.2``, …
        max_mb: size at which a new file starts.
        keep: number of older files.
        provisional: whether provisional events are written too.
    """

    kind: Literal["file"] = "file"
    path: Path
    max_mb: float = Field(default=10.0, gt=0)
    keep: int = Field(default=5, ge=0, le=1000)
    provisional: bool = False


def _no_wildcards(topic: str) -> str:
    if set(topic) & set("#+\0"):
        raise ValueError("must not contain the wildcards # and +")
    return topic


class MqttSink(_Settings):
    """An MQTT broker; events go to ``TOPIC/final``, ``TOPIC/provisional`` and ``TOPIC/status``.

    Those of a source with a name go to ``TOPIC/NAME/final``, and so on.

    Attributes:
        host: name or address.
        port: by default 8883 with TLS, 1883 without.
        topic: prefix of the topics. ``TOPIC/online`` holds ``true``, and ``false`` by last will (both retained).
        client_id: random by default.
        username: for the broker.
        password: for the broker.
        password_file: file whose first line is the password; without either, ``EDGEEMO_MQTT_PASSWORD`` is used.
        tls: encrypt; implied by ``ca_file`` and ``cert_file``.
        ca_file: trusted certificates; by default the system's.
        cert_file: the client's certificate.
        key_file: the client's key.
        qos: 0, 1 or 2.
        provisional: whether provisional events are sent too.
    """

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    topic: Annotated[str, AfterValidator(_no_wildcards)] = Field(default="edgeemo", min_length=1, max_length=1000)
    client_id: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    qos: int = Field(default=1, ge=0, le=2)
    provisional: bool = True

    @model_validator(mode="after")
    def _one_password(self) -> MqttSink:
        if self.password and self.password_file:
            raise ValueError("give password or password_file, not both")
        if (self.password or self.password_file) and not self.username:
            raise ValueError("a password needs a username")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        return self


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*", name.lower()):
        raise ValueError('must be host names without http:// and port, as "edge.example"')
    return name.lower()


class WebSink(_Settings):
    """A page with the live timeline, its WebSocket, ``/healthz`` and ``/metrics`` for Prometheus.

    Attributes:
        host: address to bind to.
        port: 0 takes any free one.
        token: required by everything but ``/healthz``, with at least 16 characters where others can reach ``host``.
            There, a random one is created and printed at the start if none is given.
        token_file: file whose first line is the token.
        allowed_hosts: names by which browsers reach a proxy in front of the page, as ``edge.example``.
        history_minutes: history that a newly opened page shows.
    """

    kind: Literal["web"] = "web"
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    token: SecretStr | None = None
    token_file: Path | None = None
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    history_minutes: float = Field(default=10.0, gt=0, le=120)

    @model_validator(mode="after")
    def _one_token(self) -> WebSink:
        if self.token is not None and self.token_file is not None:
            raise ValueError("give token or token_file, not both")
        return self


SinkSettings = Annotated[StdoutSink | TerminalSink | FileSink | MqttSink | WebSink, Field(discriminator="kind")]


def _as_text(place: Any) -> Any:
    return os.fspath(place) if isinstance(place, os.PathLike) else place


Place = Annotated[str, BeforeValidator(_as_text)]
Name = Annotated[str, AfterValidator(checked_name)]


class SourceSettings(_Settings):
    """One of several sources; what it leaves out is as for all sources.

    Attributes:
        source: as ``source`` of `ListenSettings`.
        channels: which of its channels are used.
        paced: play its file in real time.
        raw: how to read its file or pipe without a header.
        profile: name of its speaker's profile.
    """

    source: Place
    channels: Annotated[Channels, PlainValidator(parse_channels)] | None = None
    paced: bool | None = None
    raw: RawSettings | None = None
    profile: Name | None = None


def _as_table(source: Any) -> Any:
    return {"source": source} if isinstance(source, str | os.PathLike) else source


class ListenSettings(_Settings):
    """All settings.

    Attributes:
        bundle: directory of the bundle; by default the installed one.
        source: ``mic://``, ``mic://NAME``, an audio file (a text or a `Path`) or a named pipe, an ``http://``,
            ``https://`` or ``rtsp://`` address, or ``-``.
        sources: instead of ``source``, several by their names, which events carry.
        channels: which channels are used: ``auto``, ``mix`` (the mean of all), ``left``, ``right``, a number from 0
            on, or a list of numbers.
        paced: play a file in real time.
        record: directory for recordings; by default no audio is written.
        raw: how to read a file or pipe without a header; by default the format is recognised.
        sinks: outputs for events.
    """

    bundle: Path | None = None
    source: Place = "mic://"
    sources: dict[Name, Annotated[SourceSettings, BeforeValidator(_as_table)]] = {}
    channels: Annotated[Channels, PlainValidator(parse_channels)] = "auto"
    paced: bool = False
    record: Path | None = None
    raw: RawSettings | None = None
    engine: EngineSettings = EngineSettings()
    vad: VadSettings = VadSettings()
    decision: DecisionSettings = DecisionSettings()
    speaker: SpeakerSettings = SpeakerSettings()
    watch: WatchSettings = WatchSettings()
    service: ServiceSettings = ServiceSettings()
    sinks: tuple[SinkSettings, ...] = ()

    @model_validator(mode="after")
    def _sources_apart(self) -> ListenSettings:
        if self.sources and "source" in self.model_fields_set:
            raise ValueError("give source or sources, not both")
        if len(self.sources) > 1 and self.speaker.profile is not None:
            raise ValueError("a profile belongs to one source: name it as profile under [sources.NAME]")
        inputs = {name: _once_only(each.source) for name, each in self.sources.items()}
        profiles = {name: each.profile for name, each in self.sources.items()}
        for what, values in (("input", inputs), ("profile", profiles)):
            if same := _same(values):
                raise ValueError(f"sources {same[0]} and {same[1]} have the same {what}; give each its own")
        return self

    def of_sources(self) -> dict[str | None, ListenSettings]:
        """Return the settings of each source by its name; those of a source without a name by None."""
        if not self.sources:
            return {None: self}
        shared = {name: getattr(self, name) for name in self.model_fields_set - {"sources"}}
        return {name: ListenSettings.model_validate(shared | self._own(each)) for name, each in self.sources.items()}

    def _own(self, source: SourceSettings) -> dict[str, Any]:
        own = {name: getattr(source, name) for name in ("source", "channels", "paced", "raw")}
        if source.profile is not None:
            own["speaker"] = self.speaker.model_copy(update={"profile": source.profile})
        return {name: value for name, value in own.items() if value is not None}


def _once_only(source: str) -> str | None:
    """Return the input of a source that cannot be read twice at a time: a microphone or standard input; else None."""
    if source in ("-", "/dev/stdin"):
        return "-"
    return source.removeprefix("mic://") if source.startswith("mic://") or is_device(source) else None


def _same(values: Mapping[str, str | None]) -> tuple[str, str] | None:
    """Return the names of two equal values; None if all differ."""
    first: dict[str, str] = {}
    for name, value in values.items():
        if value is not None and first.setdefault(value, name) != name:
            return first[value], name
    return None


_COMPARE = "compare with: edgeemo listen --example-config"


def read_settings(path: os.PathLike[str] | str) -> ListenSettings:
    """Read a configuration file; relative paths are relative to its directory.

    Raises:
        EdgeemoError: the file cannot be read.
        WrongUseError: it is not valid TOML, or a key or value is wrong.
    """
    path = Path(path)
    try:
        # "-sig", since editors on Windows begin a file with a byte order mark.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error
    except UnicodeDecodeError as error:
        raise WrongUseError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except RecursionError as error:
        raise WrongUseError(f"{path}: is not valid TOML (it is nested too deeply); {_COMPARE}") from error
    except ValueError as error:
        # Not only tomllib's own: Python rejects integers of several thousand digits.
        raise WrongUseError(f"{path}: is not valid TOML ({shown(error, 300)}); {_COMPARE}") from error
    return _from_here(parse_settings(content, str(path)), path.parent)


def parse_settings(
    content: dict[str, Any], where: str, options: Mapping[tuple[str, ...], str] | None = None
) -> ListenSettings:
    """Validate settings; ``options`` are command-line options by the keys of their settings, for messages.

    Raises:
        WrongUseError: a key or value is wrong; the message lists all of them.
    """
    try:
        return ListenSettings.model_validate(content)
    except ValidationError as error:
        raise wrong_settings(error, where, ListenSettings, options) from None


def _from_here(settings: _Part, folder: Path) -> _Part:
    """Return settings with relative paths joined to ``folder``, nested tables included."""

    def moved(value: Any) -> Any:
        if isinstance(value, _Settings):
            return _from_here(value, folder)
        if isinstance(value, tuple):
            return tuple(map(moved, value))
        if isinstance(value, dict):
            return {name: moved(each) for name, each in value.items()}
        return folder / value if isinstance(value, Path) else value

    update = {name: moved(getattr(settings, name)) for name in settings.model_fields_set}
    source = update.get("source")
    if isinstance(source, str) and source and source != "-" and "://" not in source and not is_device(source):
        update["source"] = str(folder / source)
    return settings.model_copy(update=update)
