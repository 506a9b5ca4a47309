"""The page of `edgeemo browser` in Chromium without a window, with files or a fake microphone, driven by playwright."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page, sync_playwright

from edge_runtime.errors import EdgeemoError, MissingPartError
from edge_runtime.events import EmotionEvent, Event, StatusEvent, parse_event

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_TIMEOUT_MS = 120_000
_KEEP_EVENTS = "window.edgeemo = []; document.addEventListener('edgeemo', ({detail}) => window.edgeemo.push(detail));"


class Window(NamedTuple):
    """A window that the page scored: its length, and the time that it took."""

    samples: int
    ms: float


class OpenPage:
    """A page that is open.

    Attributes:
        page: of playwright.
        address: of the page, with a slash at its end.
        faults: messages of the console and errors of scripts.
        requests: addresses that were asked for.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.context.on("request", lambda request: self.requests.append(request.url))
        page.add_init_script(_KEEP_EVENTS)
        page.goto(address)
        page.locator("#connection:not([data-state=connecting])").wait_for(timeout=_TIMEOUT_MS)

    def status(self) -> str:
        """Return the text at the top of the page, such as ``Ready``."""
        return self.page.inner_text("#connection-text")

    def events(self) -> list[Event]:
        """Return all events so far, each of them valid by the schema of the runtime's events."""
        return [parse_event(json.dumps(each)) for each in self.page.evaluate("window.edgeemo")]

    def score(self, path: Path) -> list[Event]:
        """Score a file and return its events.

        Raises:
            EdgeemoError: the page cannot decode or score it.
        """
        before = len(self.events())
        self.page.set_input_files("#file", path)
        self.wait_until_stopped()
        events = self.events()[before:]
        if not (events and isinstance(events[-1], StatusEvent) and events[-1].status == "stopped"):
            raise EdgeemoError(f"{path}: the page could not score it ({self.status()})")
        return events

    def wait_until_stopped(self) -> None:
        """Wait until nothing is listened to, which is when a file can be chosen."""
        self.page.locator("#file:enabled, #connection[data-state=lost], #connection[data-state=denied]").first.wait_for(
            timeout=_TIMEOUT_MS
        )

    def windows(self) -> list[Window]:
        """Return the windows of the last file or microphone that ended."""
        found: Any = json.loads(self.page.get_attribute("#latency", "data-windows") or "[]")
        return [Window(**each) for each in found]

    def open_ms(self) -> float:
        """Return how long it took to load and open the graph, once something has been scored."""
        return float(self.page.get_attribute("#latency", "data-open-ms") or "nan")

    def known_answers_error(self) -> float:
        """Return the error of the known-answer test, once something has been scored."""
        return float(self.page.get_attribute("#latency", "data-known-answers-error") or "nan")


def finals(events: list[Event]) -> list[EmotionEvent]:
    """Return the final events among others."""
    return [event for event in events if isinstance(event, EmotionEvent) and event.type == "final"]


def path_of_chromium() -> str:
    """Return the path of Chromium.

    Raises:
        MissingPartError: it is not installed.
    """
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise MissingPartError("chromium is not installed; run: sudo apt-get install chromium")
    return path


@contextmanager
def open_page(folder: Path, microphone: Path | str | None = None) -> Iterator[OpenPage]:
    """Serve a page on this machine, open it, and close all of it at the end.

    Args:
        folder: as `edgeemo browser` made it.
        microphone: a WAV file that Chromium takes for its microphone, again and again; once with ``%noloop`` behind it.

    Raises:
        MissingPartError: Chromium is not installed.
    """
    arguments = [*ARGUMENTS]
    if microphone is not None:
        arguments += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    path = path_of_chromium()
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield OpenPage(browser.new_page(viewport={"width": 1280, "height": 900}), address)
        finally:
            browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing for a request."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a directory as ``python3 -m http.server`` does, and yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
