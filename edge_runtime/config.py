"""Settings of `edgeemo listen`: what ``--config edge.toml`` may say, and what the options of the command override."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from edge_runtime.backends import Backend
from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.profile_name import checked_name
from edge_runtime.settings_errors import wrong_settings
from edge_runtime.strict_json import shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Settings(BaseModel):
    # A traceback shows pydantic's error too, and the input in it may be a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


_Part = TypeVar("_Part", bound=_Settings)


class EngineSettings(_Settings):
    """What runs the graph.

    Attributes:
        backend: ``auto`` takes TensorRT where a CUDA device, tensorrt and pycuda are.
        precision: which graph; the best for the backend if not told.
        threads: threads within one operator.
    """

    backend: Backend = "auto"
    precision: Precision | None = None
    threads: int = Field(default=1, ge=1, le=64)


class GateSettings(_Settings):
    """How speech is told from silence (`edge_runtime/loop/speech_gate.py`), in seconds and probabilities.

    Attributes:
        enabled: without it, plain segments are scored, silence included.
        enter: probability of speech at which speech begins.
        leave: probability under which it may end; lower than ``enter``, so that it does not flutter.
        minimum_speech: less than this is no speech.
        minimum_silence: speech ends after so much silence.
        padding: how much before and after speech belongs to it.
    """

    enabled: bool = True
    enter: float = Field(default=0.5, gt=0, lt=1)
    leave: float = Field(default=0.35, gt=0, lt=1)
    minimum_speech: float = Field(default=0.25, ge=0.0, le=5.0)
    minimum_silence: float = Field(default=0.6, ge=0.05, le=5.0)
    padding: float = Field(default=0.2, ge=0.0, le=2.0)

    @model_validator(mode="after")
    def _in_order(self) -> GateSettings:
        if self.leave > self.enter:
            raise ValueError("must satisfy leave <= enter")
        if self.padding > self.minimum_silence:
            raise ValueError("must satisfy padding <= minimum_silence")
        return self


class DecisionSettings(_Settings):
    """How steady provisional labels are (`edge_runtime/loop/steady.py`).

    Attributes:
        smoothing: share of the past in the running mean of a stretch's probabilities; 0 shows each window by itself.
        margin: a new label must lead the shown one by so much.
        patience: in so many windows in a row.
        hop_seconds: time from one window to the next; the bundle's if not told.
    """

    smoothing: float = Field(default=0.5, ge=0.0, lt=1.0)
    margin: float = Field(default=0.05, ge=0.0, lt=1.0)
    patience: int = Field(default=2, ge=1, le=20)
    hop_seconds: float | None = Field(default=None, ge=0.1, le=10.0)


class SpeakerSettings(_Settings):
    """Whether the student gets to know its speaker (`edge_runtime/speakers/speaker.py`).

    Attributes:
        profile: name of the profile that is kept of the voice (`speakers/profile_store.py`); begun if not there. A
            bundle that tells voices apart pauses it while somebody else speaks (`speakers/recent_voice.py`).
        session: get to know whoever speaks without a profile, or while it is paused, if the bundle's student can, and
            forget it at the end. If not told, where the bundle tells voices apart: then nobody is taken for somebody
            else for long, and it was better than no reference in all orders that were measured (distill/RESULTS.md).
    """

    profile: Annotated[str, AfterValidator(checked_name)] | None = None
    session: bool | None = None


class WatchSettings(_Settings):
    """When a stream without sound is worth an event.

    Attributes:
        silence_seconds: of digital silence.
        no_audio_seconds: without any frames.
    """

    silence_seconds: float = Field(default=10.0, gt=0)
    no_audio_seconds: float = Field(default=3.0, gt=0)


class ServiceSettings(_Settings):
    """How much of the device the process may take.

    Attributes:
        nice: nice level, 0 for the usual one.
        memory_mb: the process ends with exit code 1, to be started again, when its resident memory is beyond this.
    """

    nice: int = Field(default=0, ge=0, le=19)
    memory_mb: int | None = Field(default=None, ge=64)


class StdoutSink(_Settings):
    """JSON lines on standard output."""

    kind: Literal["stdout"] = "stdout"


class TerminalSink(_Settings):
    """A view for a person, on the error stream."""

    kind: Literal["terminal"] = "terminal"


class FileSink(_Settings):
    """JSON lines in a file that is rotated.

    Attributes:
        path: the file; older ones are ``path.1`` (the newest of them), ``path.2``, …
        max_mb: size at which a new one begins.
        keep: how many older ones are kept.
        provisional: whether provisional events are written too.
    """

    kind: Literal["file"] = "file"
    path: Path
    max_mb: float = Field(default=10.0, gt=0)
    keep: int = Field(default=5, ge=0, le=1000)
    provisional: bool = False


def _no_wildcards(topic: str) -> str:
    if set(topic) & set("#+\0"):
        raise ValueError("must hold no # or +, which stand for many topics: events are published under one")
    return topic


class MqttSink(_Settings):
    """An MQTT broker; events go to ``TOPIC/final``, ``TOPIC/provisional`` and ``TOPIC/status``.

    Attributes:
        host: name or address.
        port: 8883 with TLS, 1883 without, if not told.
        topic: first part of the topics. ``TOPIC/online`` holds ``true``, and ``false`` by last will (both retained).
        client_id: made up if not told.
        username: for the broker.
        password: for the broker; better in ``password_file``, or in the environment variable
            ``EDGEEMO_MQTT_PASSWORD``, which is taken where neither is given.
        password_file: whose first line is the password.
        tls: encrypt; always so where ``ca_file`` or ``cert_file`` is given.
        ca_file: certificates to trust; the system's if not told.
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


class WebSink(_Settings):
    """A page with the live timeline, its WebSocket, ``/healthz`` and ``/metrics`` for Prometheus.

    Attributes:
        host: address to bind to.
        port: 0 takes any free one.
        token: asked for by everything but ``/healthz``; made up and told at start where ``host`` is not this machine
            alone and none is given. There it needs 16 characters.
        token_file: whose first line is the token.
        history_minutes: how much a page shows that is opened later.
    """

    kind: Literal["web"] = "web"
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    token: SecretStr | None = None
    token_file: Path | None = None
    history_minutes: float = Field(default=10.0, gt=0, le=120)

    @model_validator(mode="after")
    def _one_token(self) -> WebSink:
        if self.token is not None and self.token_file is not None:
            raise ValueError("give token or token_file, not both")
        return self


SinkSettings = Annotated[StdoutSink | TerminalSink | FileSink | MqttSink | WebSink, Field(discriminator="kind")]


class ListenSettings(_Settings):
    """All of it.

    Attributes:
        bundle: directory of the bundle; the one that is installed with the runtime if not told.
        source: ``mic://``, ``mic://NAME``, an audio file or ``-``.
        paced: play a file at the speed of time.
        record: directory that the audio is written to; nothing is written without it.
        sinks: where events go, several at once.
    """

    bundle: Path | None = None
    source: str = "mic://"
    paced: bool = False
    record: Path | None = None
    engine: EngineSettings = EngineSettings()
    gate: GateSettings = GateSettings()
    decision: DecisionSettings = DecisionSettings()
    speaker: SpeakerSettings = SpeakerSettings()
    watch: WatchSettings = WatchSettings()
    service: ServiceSettings = ServiceSettings()
    sinks: tuple[SinkSettings, ...] = ()


def read_settings(path: Path) -> ListenSettings:
    """Read a configuration file; paths in it are relative to it.

    Raises:
        EdgeemoError: the file cannot be read.
        WrongUseError: it is not valid TOML, or a key or value is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise WrongUseError(f"{path}: is not valid TOML (it is nested too deeply)") from error
    except ValueError as error:
        # Not only tomllib's own: Python refuses a number of some thousand digits.
        raise WrongUseError(f"{path}: is not valid TOML ({shown(error, 300)})") from error
    return _from_here(parse_settings(content, str(path)), path.parent)


def parse_settings(
    content: dict[str, Any], where: str, options: Mapping[tuple[str, ...], str] | None = None
) -> ListenSettings:
    """Return the settings that some keys and values mean.

    Args:
        content: keys and values.
        where: what they are from, for messages.
        options: options of the command line by the setting that each stands for, as ``("decision", "hop_seconds")``;
            messages name them.

    Raises:
        WrongUseError: a key or value is wrong; ``where`` is named, and all that is wrong.
    """
    try:
        return ListenSettings.model_validate(content)
    except ValidationError as error:
        raise wrong_settings(error, where, ListenSettings, options) from None


def _from_here(settings: _Part, folder: Path) -> _Part:
    """Return settings whose relative paths are relative to ``folder``, those of the parts too."""

    def moved(value: Any) -> Any:
        if isinstance(value, _Settings):
            return _from_here(value, folder)
        if isinstance(value, tuple):
            return tuple(map(moved, value))
        return folder / value if isinstance(value, Path) else value

    update = {name: moved(getattr(settings, name)) for name in settings.model_fields_set}
    source = update.get("source")
    if isinstance(source, str) and source and source != "-" and "://" not in source:
        update["source"] = str(folder / source)
    return settings.model_copy(update=update)
