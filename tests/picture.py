"""The picture of a page for a document: ``python -m tests.picture PAGE PICTURE``; needs Chromium."""

import sys
from pathlib import Path

from tests.browser import chromium

SIZE = {"width": 1040, "height": 1560}
"""In pixels: as much of a report as one reads at first sight."""


def take(page: Path, picture: Path) -> None:
    with chromium() as browser:
        sheet = browser.new_page(viewport=SIZE)
        sheet.goto(page.resolve().as_uri())
        sheet.screenshot(path=picture)


if __name__ == "__main__":
    take(*map(Path, sys.argv[1:3]))
