"""The view at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.live import Live
from rich.text import Text

from edge_runtime.console import console
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.loop.monitor import SILENT_DB, Monitor, Snapshot
from edge_runtime.sinks.interface import Sink

_BAR = 20
_METER = 12
_QUIETEST_DB = -60.0
_PER_SECOND = 5
_LINES = 8
"""Most sources that have a line at a time."""


class LiveLine(Sink):
    """Prints final events on the error stream, above a line that shows level, state and provisional result.

    The line is shown at terminals only. Sources with names have one each, those with speech first, up to `_LINES`.
    """

    name = "terminal"

    def __init__(self, monitor: Monitor, sources: Mapping[str, Monitor] | None = None) -> None:
        self._monitors: Mapping[Any, Monitor] = sources or {None: monitor}
        self._widest = max(len(name or "") for name in self._monitors)
        self._provisional: dict[str | None, EmotionEvent] = {}
        self._live = Live(
            console=console, transient=True, get_renderable=self._lines_now, refresh_per_second=_PER_SECOND
        )

    def __enter__(self) -> LiveLine:
        """Start the live line."""
        if console.is_terminal:
            self._live.start()
        return self

    def close(self) -> None:
        """Remove the live line."""
        self._live.stop()

    def emit(self, event: Event) -> None:
        """Show one event."""
        if not isinstance(event, EmotionEvent):
            console.print(f"{self._name(event.source)}{event.start:7.1f} s  {event.detail}", style="dim")
        elif event.type == "final":
            self._provisional.pop(event.source, None)
            console.print(Text(self._name(event.source)).append_text(_emotion(event)))
        else:
            self._provisional[event.source] = event

    def _name(self, source: str | None) -> str:
        return f"{source:<{self._widest}}  " if source else ""

    def _lines_now(self) -> Text:
        states = {name: monitor.snapshot() for name, monitor in self._monitors.items()}
        shown = sorted(states, key=lambda name: not states[name].speaking)[:_LINES]
        lines = [self._line(name, states[name]) for name in states if name in shown]
        return Text("\n").join(lines)

    def _line(self, name: str | None, now: Snapshot) -> Text:
        level = (max(now.level_db, _QUIETEST_DB) - _QUIETEST_DB) / -_QUIETEST_DB
        text = Text(f"{self._name(name)}{now.position:7.1f} s  ")
        text.append(_filled("▮", "▯", level, _METER), style="green" if now.speaking else "dim")
        text.append(f" {'-∞' if now.level_db <= SILENT_DB else f'{now.level_db:.0f}'} dB".ljust(8))
        text.append(now.state, style="green" if now.state == "listening" else "yellow")
        provisional = self._provisional.get(name)
        if provisional is not None and now.speaking:
            text.append("  ").append_text(_emotion(provisional))
        return text


def _emotion(event: EmotionEvent) -> Text:
    text = Text(f"{event.start:7.1f} - {event.end:5.1f} s  ")
    text.append(f"{event.label:<10}", style="bold")
    text.append(_filled("█", "░", event.confidence, _BAR), style="cyan")
    text.append(f" {event.confidence:4.0%}")
    for name, value in (event.dimensions or {}).items():
        text.append(f"  {name} {value:.2f}", style="cyan")
    if event.uncertain:
        text.append("  uncertain", style="yellow")
    if event.profile is not None:
        text.append(f"  profile {event.profile}", style="dim")
    if event.speaker_known:
        text.append(f"  speaker {event.speaker_known:.0%} known", style="dim")
    if event.type == "provisional":
        text.append("  …", style="dim")
    return text


def _filled(full: str, empty: str, share: float, width: int) -> str:
    filled = round(share * width)
    return full * filled + empty * (width - filled)
