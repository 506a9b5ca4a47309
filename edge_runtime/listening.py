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
from edge_runtime.loop.listener import Listener
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
from edge_runtime.sources.interface import Block, Source
from edge_runtime.sources.recorder import RecordedSource
from edge_runtime.sources.source_uri import open_source
from edge_runtime.speakers.profile_store import profile_path


def run(settings: ListenSettings, say: Callable[[str], None]) -> None:
    """Listen until the source ends or a signal arrives (`_stop_on_signals`); every sink receives the last final event.

    ``say`` receives sentences for the user: what runs, and what takes long. Without sinks in the settings, a terminal
    gets the live view, any other output JSON lines.

    Raises:
        WrongUseError: a setting does not fit the bundle.
        EdgeemoError: the bundle, the profile, the source or a sink cannot be used, or the memory limit is exceeded.
        BrokenPipeError: the reader of standard output left.
    """
    lower_priority(settings.service.nice)
    give_back_large_blocks()
    bundle = load_bundle(settings.bundle or DEFAULT_BUNDLE)
    if settings.bundle is None:
        say(_of_default(bundle))
    with Model(bundle, settings, say) as model, contextlib.closing(_opened(settings)) as source:
        if settings.record:
            source = RecordedSource(source, settings.record)
            say(f"recording: all audio is written to {settings.record}")
        monitor = Monitor()
        if settings.speaker.profile is not None:
            say(f"profile: what is known of the speaker is kept in {profile_path(settings.speaker.profile)}")
        listener = model.listener(monitor)
        bounded = _BoundedSource(source, settings.service.memory_mb)
        terminal = sys.stdout is not None and sys.stdout.isatty()
        chosen = settings.sinks or (TerminalSink() if terminal else StdoutSink(),)
        group = SinkGroup(open_sinks(chosen, monitor), monitor, live=source.live)
        _stop_on_signals(source, listener, group)
        # The live view reports on the other sinks; without it, standard error does.
        report = None if any(isinstance(sink, TerminalSink) for sink in chosen) else say
        with group, Watchdog(monitor):
            give_back_memory()
            say(f"{model.backend}, bundle {bundle.hash[:12]}; stop with Ctrl-C")
            if refused := bundle.refused_by_gate(model.precision):
                say(refused)
            notify("READY=1", f"STATUS=listening to {source.name}")
            left = _emit_all(listener, bounded, group, report)
            notify("STOPPING=1", "STATUS=stopping")
        for what in group.notices():
            say(what)
    if bounded.why:
        raise EdgeemoError(bounded.why)
    if left:
        raise BrokenPipeError("the reader of standard output left")
    _check_outcome(source, settings, monitor, say)


def _opened(settings: ListenSettings) -> Source:
    raw = settings.raw.as_pcm() if settings.raw else None
    return open_source(settings.source, paced=settings.paced, channels=settings.channels, raw=raw)


def _check_outcome(source: Source, settings: ListenSettings, monitor: Monitor, say: Callable[[str], None]) -> None:
    """Check the outcome for a file or a pipe: lost events are an error, missing speech gives a hint."""
    end = monitor.snapshot()
    if source.live:
        return
    if end.lost_events:
        lost = ", ".join(f"{count} for {name}" for name, count in end.lost_events.items())
        raise EdgeemoError(f"events were lost: {lost}")
    if settings.vad.enabled and not end.events.get("final"):
        say(f"no speech was found in {source.name}; --no-vad scores everything")


def _of_default(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return (
        f"the default bundle: {', '.join(manifest.labels)}; trained on acted speech ({', '.join(manifest.languages)}), "
        f"for research only: {bundle.root / 'README.md'}"
    )


def _emit_all(listener: Listener, source: Source, group: SinkGroup, report: Callable[[str], None] | None) -> bool:
    """Send every event to every sink; return whether the reader of standard output left, which ends the source."""
    left = False
    for event in listener.listen(source):
        notices = [listener.status("sink", what) for what in group.notices()]
        for status in notices:
            if report:
                report(status.detail)
        for each in (*notices, event):
            if not _emit(group, each) and not left:
                left = True
                source.close()
    return left


def _emit(group: SinkGroup, event: Event) -> bool:
    try:
        group.emit(event)
    except BrokenPipeError:
        return False
    return True


class _BoundedSource:
    """Ends when the process exceeds its memory limit (``why``), so that the audio until then gives its events."""

    def __init__(self, source: Source, limit_mb: int | None) -> None:
        self._source = source
        self._limit_mb = limit_mb
        self.name = source.name
        self.live = source.live
        self.why: str | None = None

    def blocks(self) -> Iterator[Block]:
        for block in self._source.blocks():
            yield block
            if self.why is None and (why := memory_exceeded(self._limit_mb)):
                self.why = why
                self._source.close()

    def close(self) -> None:
        self._source.close()


def _stop_on_signals(source: Source, listener: Listener, group: SinkGroup) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the source, so that the last final event is emitted; a second signal kills.

    A second SIGHUP is ignored, since both the shell and the system send it when a terminal is closed; so is the first
    one where the process was started with it ignored, as by nohup.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: FrameType | None) -> None:
        listener.ending = f"stopped by {signal.Signals(number).name}"
        source.close()
        group.hurry()
        for each in numbers:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)

    for each in numbers:
        if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, stop)
