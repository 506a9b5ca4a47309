"""A robot's state machine, driven by emotion events: attentive, soothing, celebrating.

    python -m edge_runtime.examples.robot                   # follows the microphone; Ctrl-C ends it
    python -m edge_runtime.examples.robot --source clip.wav

Replace `act` by what your robot does, and `MOODS` by the labels of your bundle. Without speech there are no
events: a timer of `act` may limit the duration of a state.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from edge_runtime import Event, StatusEvent, listen

MOODS = {"angry": "soothing", "sad": "soothing", "happy": "celebrating"}
ENTER, LEAVE = 0.5, 0.3
"""Hysteresis: a state begins at more evidence than it ends at, so that the robot does not flutter between two."""
MEMORY = 0.5
"""Weight of earlier utterances in the running mean."""
DEAF = {"device-lost", "no-audio", "silence", "engine"}
"""Status events after which earlier speech no longer counts."""


class Robot:
    """The state machine. Evidence for a state is the probability of its labels, as a running mean of utterances."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Return to the initial state."""
        self.state = "attentive"
        self._evidence = dict.fromkeys(MOODS.values(), 0.0)

    def update(self, event: Event) -> bool:
        """Take one event; return whether the state changed."""
        before = self.state
        if isinstance(event, StatusEvent):
            if event.status in DEAF:
                self.forget()
        elif event.type == "final" and not event.uncertain:
            # Provisional events may still change, and uncertain ones have a low confidence.
            for state in self._evidence:
                now = sum(event.probabilities.get(label, 0.0) for label in MOODS if MOODS[label] == state)
                self._evidence[state] = MEMORY * self._evidence[state] + (1 - MEMORY) * now
            best = max(self._evidence, key=lambda state: self._evidence[state])
            if self._evidence[best] >= ENTER:
                self.state = best
            elif self._evidence.get(self.state, 0.0) < LEAVE:
                self.state = "attentive"
        return self.state != before


def act(state: str, event: Event) -> None:
    """Act on a new state. Runs between two events: slow work belongs into a thread of its own."""
    click.echo(f"{event.end:7.1f} s  {state}")


@click.command()
@click.option("--source", default="mic://", show_default=True, help="Microphone or audio file.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Not the default bundle.")
def main(source: str, bundle: Path | None) -> None:
    """Follow SOURCE and print every change of the robot's state."""
    robot = Robot()
    with suppress(KeyboardInterrupt):
        for event in listen(bundle, source):
            started = isinstance(event, StatusEvent) and event.status == "started"
            if robot.update(event) or started:
                act(robot.state, event)


if __name__ == "__main__":
    main()
