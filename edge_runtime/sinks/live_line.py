"""A view for a person at a terminal."""

from __future__ import annotations

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


class LiveLine(Sink):
    """Final events one under the other on the error stream, and below them a line that lives.

    The line shows the level, whether someone speaks, and what the emotion is so far. Where the error stream is no
    terminal there is no such line.

    Args:
        monitor: knows the level.
    """

    name = "terminal"

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._so_far: EmotionEvent | None = None
        self._live = Live(
            console=console, transient=True, get_renderable=self._line_now, refresh_per_second=_PER_SECOND
        )

    def __enter__(self) -> LiveLine:
        """Start the live line."""
        if console.is_terminal:
            self._live.start()
        return self

    def close(self) -> None:
        """Take the live line away."""
        self._live.stop()

    def emit(self, event: Event) -> None:
        """Show one event."""
        if not isinstance(event, EmotionEvent):
            console.print(f"{event.start:7.1f} s  {event.detail}", style="dim")
        elif event.type == "final":
            self._so_far = None
            console.print(emotion_line(event))
        else:
            self._so_far = event

    def _line_now(self) -> Text:
        state = self._monitor.snapshot()
        line = state_line(state)
        so_far = self._so_far
        if so_far is not None and state.speaking:
            line.append("  ").append_text(emotion_line(so_far))
        return line


def state_line(state: Snapshot) -> Text:
    """Return time, level and what the microphone does, for a person."""
    loud = (max(state.level_db, _QUIETEST_DB) - _QUIETEST_DB) / -_QUIETEST_DB
    filled = round(loud * _METER)
    text = Text(f"{state.position:7.1f} s  ")
    text.append("▮" * filled + "▯" * (_METER - filled), style="green" if state.speaking else "dim")
    text.append(f" {'-∞' if state.level_db <= SILENT_DB else f'{state.level_db:.0f}'} dB".ljust(8))
    if state.state not in ("listening", "starting"):
        text.append(state.state, style="yellow")
    return text


def emotion_line(event: EmotionEvent) -> Text:
    """Return what an event says, for a person."""
    filled = round(event.confidence * _BAR)
    text = Text(f"{event.start:7.1f} - {event.end:5.1f} s  ")
    text.append(f"{event.label:<10}", style="bold")
    text.append("█" * filled + "░" * (_BAR - filled), style="cyan")
    text.append(f" {event.confidence:4.0%}")
    if event.uncertain:
        text.append("  uncertain", style="yellow")
    if event.profile is not None:
        text.append(f"  profile {event.profile} {event.reference_weight:.0%}", style="dim")
    if event.type == "provisional":
        text.append("  …", style="dim")
    return text
