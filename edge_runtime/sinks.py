"""Where events go: JSON lines for machines, one live line for a person."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, TextIO

from rich.live import Live
from rich.text import Text

from edge_runtime.console import console
from edge_runtime.events import EmotionEvent, Event

_BAR = 20


class Sink(Protocol):
    """Something that takes events; a context manager."""

    def __enter__(self) -> Sink:
        """Start."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""

    def emit(self, event: Event) -> None:
        """Take one event."""


class JsonLines:
    """One JSON object a line, flushed at once.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> JsonLines:
        """Do nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    def emit(self, event: Event) -> None:
        """Write one line."""
        self._stream.write(event.model_dump_json() + "\n")
        self._stream.flush()


class LiveLine:
    """A line on the error stream that changes while someone speaks, and stays when a segment is final."""

    def __init__(self) -> None:
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> LiveLine:
        """Start the live line."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
