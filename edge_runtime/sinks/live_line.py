"""A view for a person at a terminal."""

from __future__ import annotations

from rich.live import Live
from rich.text import Text

from edge_runtime.console import console
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.sinks.interface import Sink

_BAR = 20


class LiveLine(Sink):
    """A line on the error stream that changes while someone speaks, and stays when a segment is final."""

    name = "terminal"

    def __init__(self) -> None:
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> LiveLine:
        """Start the live line."""
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
            console.print(_line(event))
            self._live.update(Text(""), refresh=True)
        elif console.is_terminal:
            self._live.update(_line(event), refresh=True)


def _line(event: EmotionEvent) -> Text:
    filled = round(event.confidence * _BAR)
    text = Text(f"{event.start:7.1f} - {event.end:5.1f} s  ")
    text.append(f"{event.label:<10}", style="bold")
    text.append("█" * filled + "░" * (_BAR - filled), style="cyan")
    text.append(f" {event.confidence:4.0%}")
    if event.uncertain:
        text.append("  uncertain", style="yellow")
    if event.type == "provisional":
        text.append("  …", style="dim")
    return text
