"""The sources of the settings, opened, each with its listener and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge_runtime.config import ListenSettings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import Event
from edge_runtime.loop.listener import Listener
from edge_runtime.loop.monitor import Monitor
from edge_runtime.loop.several import Feed, listen_to_several
from edge_runtime.model import Model
from edge_runtime.sources.interface import Source
from edge_runtime.sources.microphone import MicrophoneSource
from edge_runtime.sources.source_uri import open_source


class Inputs:
    """All sources of a process, which share its engine.

    A source without a name is read and scored in the caller's thread. Of sources with names, one that fails does not
    end the others.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = tuple(feeds)

    @property
    def live(self) -> bool:
        """Whether audio of one of them is lost when it is not taken in time."""
        return any(each.live for each in self._feeds)

    @property
    def title(self) -> str:
        """What they are called."""
        names = [each.name for each in self._feeds]
        return names[0] if len(names) == 1 else f"{len(names)} sources: {', '.join(names)}"

    def states(self) -> str:
        """Return the state of each, such as ``listening: hall; device-lost: door``; sources of one state together."""
        found: dict[str, list[str]] = {}
        for each in self._feeds:
            found.setdefault(each.listener.monitor.snapshot().state, []).append(each.name)
        return "; ".join(f"{state}: {', '.join(names)}" for state, names in found.items())

    def monitors(self) -> dict[str, Monitor]:
        """Return the states of those with names."""
        return {each.name: each.listener.monitor for each in self._feeds if each.listener.name is not None}

    def silent(self) -> list[str]:
        """Return the names of files and pipes without any final event."""
        ended = [each for each in self._feeds if not (each.live or each.failure)]
        return [each.name for each in ended if not each.listener.monitor.snapshot().events.get("final")]

    def events(self) -> Iterator[tuple[Listener, Event]]:
        """Yield the events of all, each with the listener that it is of, until the last source ends.

        Raises:
            EdgeemoError: the source without a name failed, after its events.
        """
        first = self._feeds[0]
        if first.listener.name is not None:
            yield from listen_to_several(self._feeds)
        elif not isinstance(first.source, EdgeemoError):
            yield from ((first.listener, event) for event in first.listener.listen(first.source))

    def stop(self, why: str) -> None:
        """End all for a reason; a signal handler may call it."""
        for each in self._feeds:
            each.listener.ending = why
        self.close()

    def close(self) -> None:
        """End all soon; a signal handler may call it."""
        for each in self._feeds:
            each.close()

    def check(self) -> None:
        """Report sources that failed, and profiles that could not be saved at the end.

        Raises:
            EdgeemoError: one or more failed, of the kind with the highest exit code; or a profile was not saved.
        """
        failed = {each.name: each.failure for each in self._feeds if each.failure is not None}
        messages = [*(f"source {name}: {error.message}" for name, error in failed.items()), *self.unsaved()]
        if messages:
            worst = max(failed.values(), key=lambda error: error.exit_code, default=EdgeemoError(""))
            raise type(worst)("; ".join(messages))

    def unsaved(self) -> list[str]:
        """Return a sentence for each profile whose last changes could not be saved."""
        return [each.listener.lost for each in self._feeds if each.listener.lost]


def open_inputs(
    model: Model,
    settings: ListenSettings,
    monitor: Monitor,
    wrapped: Callable[[Source, str | None], Source] = lambda source, name: source,
) -> Inputs:
    """Open all sources of the settings.

    Args:
        model: scores all of them.
        settings: name the sources; those of one without a name are otherwise the model's.
        monitor: of the process.
        wrapped: receives each source with its name, and returns what is listened to.

    Raises:
        WrongUseError: two sources are the same microphone, or a setting does not fit the bundle.
        EdgeemoError: none of them can be opened, or a profile cannot be used.
    """
    feeds: list[Feed] = []
    devices: dict[tuple[int, str], str] = {}
    try:
        for name, own in settings.of_sources().items():
            if name is None:
                source = wrapped(_opened(own), None)
                return Inputs([Feed(model.listener(monitor), source)])
            listener = model.listener(Monitor(monitor), own, name)
            try:
                opened = _opened(own)
            except EdgeemoError as error:
                feeds.append(Feed(listener, error))
                continue
            feeds.append(Feed(listener, wrapped(opened, name)))
            if isinstance(opened, MicrophoneSource):
                device = opened.device.index, opened.device.server_source
                if (same := devices.setdefault(device, name)) != name:
                    raise WrongUseError(f"sources {same} and {name} are the same {opened.name}; leave one")
        found = Inputs(feeds)
        if all(isinstance(each.source, EdgeemoError) for each in feeds):
            found.check()
    except BaseException:
        Inputs(feeds).close()
        raise
    return found


def _opened(settings: ListenSettings) -> Source:
    raw = settings.raw.as_pcm() if settings.raw else None
    return open_source(settings.source, paced=settings.paced, channels=settings.channels, raw=raw)
