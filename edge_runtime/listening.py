"""The work of `edgeemo listen`: source, model, sinks and service features, put together from settings."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.config import ListenSettings, StdoutSink, TerminalSink
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import Event
from edge_runtime.inputs import Inputs, open_inputs
from edge_runtime.loop.monitor import Monitor
from edge_runtime.model import Model
from edge_runtime.service import (
    Watchdog,
    give_back_large_blocks,
    give_back_memory,
    lower_priority,
    memory_exceeded,
    notify,
)
from edge_runtime.sinks.group import SinkGroup
from edge_runtime.sinks.open import open_sinks
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.interface import Block, Source
from edge_runtime.sources.recorder import RecordedSource
from edge_runtime.speakers.profile_store import profile_path
from edge_runtime.windows import SHORTEST


def run(settings: ListenSettings, say: Callable[[str], None]) -> None:
    """Listen until all sources end or a signal arrives (`_stop_on_signals`); every sink receives the last final events.

    ``say`` receives sentences for the user: what runs, and what takes long. Without sinks in the settings, a terminal
    gets the live view, any other output JSON lines.

    Raises:
        WrongUseError: a setting does not fit the bundle, or two sources are the same microphone.
        EdgeemoError: the bundle, a profile, a sink or the source cannot be used, or the memory limit is exceeded; of
            several sources: some of them failed, and the others have ended (its exit code is the highest of theirs); or
            a profile could not be saved at the end.
        BrokenPipeError: the reader of standard output left.
    """
    lower_priority(settings.service.nice)
    give_back_large_blocks()
    bundle = load_bundle(settings.bundle or DEFAULT_BUNDLE)
    if settings.bundle is None:
        say(_of_default(bundle))
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(Model(bundle, settings, say))
        monitor = Monitor()
        memory = _MemoryLimit(settings.service.memory_mb)

        def wrapped(source: Source, name: str | None) -> Source:
            recorded = source if settings.record is None else RecordedSource(source, settings.record / (name or ""))
            return _BoundedSource(recorded, memory)

        inputs = open_inputs(model, settings, monitor, wrapped)
        stack.callback(inputs.close)
        memory.exceed = inputs.close
        if settings.record:
            say(f"recording: all audio is written to {settings.record}")
        for each in settings.of_sources().values():
            if each.speaker.profile is not None:
                path = profile_path(each.speaker.profile)
                state = "is kept" if path.exists() else "is new, and will be kept"
                say(f"profile {each.speaker.profile} {state} in {path}")
        terminal = sys.stdout is not None and sys.stdout.isatty()
        chosen = settings.sinks or (TerminalSink() if terminal else StdoutSink(),)
        group = SinkGroup(open_sinks(chosen, monitor, inputs.monitors()), monitor, live=inputs.live)
        _stop_on_signals(inputs, group)
        # The live view reports on the other sinks; without it, standard error does.
        report = None if any(isinstance(sink, TerminalSink) for sink in chosen) else say
        with group, Watchdog(monitor):
            give_back_memory()
            say(f"{model.backend}, bundle {bundle.hash[:12]}; stop with Ctrl-C")
            if refused := bundle.refused_by_gate(model.precision):
                say(refused)
            notify("READY=1", f"STATUS=starting {inputs.title}")
            left = _emit_all(inputs, group, report)
            notify("STOPPING=1", "STATUS=stopping")
        for what in group.notices():
            say(what)
    if memory.why:
        raise EdgeemoError("; ".join([memory.why, *inputs.unsaved()]))
    if left and not inputs.unsaved():
        raise BrokenPipeError("the reader of standard output left")
    _check_outcome(inputs, settings, monitor, say)


def _check_outcome(inputs: Inputs, settings: ListenSettings, monitor: Monitor, say: Callable[[str], None]) -> None:
    """Check the outcome: failed sources, unsaved profiles and, if no source is live, lost events are errors.

    Missing speech gives a hint.
    """
    lost = monitor.snapshot().lost_events
    if not lost or inputs.live:
        for name in inputs.silent():
            if settings.vad.enabled:
                say(f"no speech was found in {name}; --no-vad scores everything")
            else:
                say(f"{name} is shorter than the {SHORTEST / SAMPLE_RATE:g} s that are scored")
    inputs.check()
    if lost and not inputs.live:
        counts = ", ".join(f"{count} for {name}" for name, count in lost.items())
        raise EdgeemoError(f"events were lost: {counts}")


def _of_default(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return (
        f"the default bundle: {', '.join(manifest.labels)}; trained on acted speech ({', '.join(manifest.languages)}), "
        f"for research only: {bundle.root / 'README.md'}"
    )


def _emit_all(inputs: Inputs, group: SinkGroup, report: Callable[[str], None] | None) -> bool:
    """Send every event to every sink; return whether the reader of standard output left, which ends the sources."""
    left = False
    shown = ""
    for listener, event in inputs.events():
        if event.type == "status" and (now := inputs.states()) != shown:
            shown = now
            notify(f"STATUS={now}")
        notices = [listener.status("sink", what) for what in group.notices()]
        for status in notices:
            if report:
                report(status.detail)
        for each in (*notices, event):
            if not _emit(group, each) and not left:
                left = True
                inputs.close()
    return left


def _emit(group: SinkGroup, event: Event) -> bool:
    try:
        group.emit(event)
    except BrokenPipeError:
        return False
    return True


class _MemoryLimit:
    """The limit of the process on its memory; ``why`` it was exceeded, and what is called then."""

    def __init__(self, limit_mb: int | None) -> None:
        self._limit_mb = limit_mb
        self.why: str | None = None
        self.exceed: Callable[[], None] = lambda: None

    def check(self) -> None:
        if self.why is None and (why := memory_exceeded(self._limit_mb)):
            self.why = why
            self.exceed()


class _BoundedSource:
    """Ends when the process exceeds its memory limit, so that the audio until then gives its events."""

    def __init__(self, source: Source, memory: _MemoryLimit) -> None:
        self._source = source
        self._memory = memory
        self.name = source.name
        self.live = source.live

    def blocks(self) -> Iterator[Block]:
        for block in self._source.blocks():
            yield block
            self._memory.check()

    def close(self) -> None:
        self._source.close()


def _stop_on_signals(inputs: Inputs, group: SinkGroup) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the sources, so that the last final events are emitted; a second signal kills.

    A second SIGHUP is ignored, since both the shell and the system send it when a terminal is closed; so is the first
    one where the process was started with it ignored, as by nohup.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        inputs.stop(f"stopped by {signal.Signals(number).name}")
        group.hurry()
        for each in numbers:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)

    for each in numbers:
        if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, stop)
