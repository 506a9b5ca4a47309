"""A real browser without a window, for pages that are looked at by tests."""

import contextlib

from edge_runtime.errors import MissingPartError
from tests.conftest import absent, need

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@contextlib.contextmanager
def chromium():
    """Yield Chromium as playwright opens it; skip where there is none."""
    need("playwright")
    from playwright.sync_api import sync_playwright

    from benchmarks.lab.browser_page import ARGUMENTS, path_of_chromium

    try:
        path = path_of_chromium()
    except MissingPartError:
        absent("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()
