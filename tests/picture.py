"""Pictures of pages for documents; needs Chromium.

python -m tests.picture bench-work/rendered/report/report.html benchmarks/results/rendered-report.png
python -m tests.picture http://127.0.0.1:8765/ edge_runtime/web-page.png 1000x620
"""

import sys
import time
from pathlib import Path

from tests.browser import chromium

SIZE = "1040x1560"
"""In pixels: the first screen of a report."""


def take(page: str, picture: Path, size: str = SIZE) -> None:
    width, height = map(int, size.split("x"))
    with chromium() as browser:
        sheet = browser.new_page(viewport={"width": width, "height": height})
        sheet.goto(page if "://" in page else Path(page).resolve().as_uri())
        time.sleep(2)  # a live page draws its first events
        sheet.screenshot(path=picture)


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:4])
