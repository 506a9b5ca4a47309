"""The site of all documents, from the documents as they lie in the repository: `make docs` writes it into ./site.

README.md is its front page, and the table under `GOALS` there is its navigation: each row is a heading, and each page
that the row links is an entry. A page that no row links is a warning, and so a failure; so is a link or an anchor that
leads nowhere.
"""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("benchmarks", "distill", "edge_runtime", "export")
GOALS = "## Where to go on"
FRONT = "README"

project = "edgeemo"
html_title = project
root_doc = FRONT
extensions = ["myst_parser"]
include_patterns = ["*.md", *(f"{room}/*.md" for room in ROOMS), "edge_runtime/default/README.md"]
# Environments, outputs and the like are not even looked into.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ROOMS]
myst_heading_anchors = 4
# Boxes in languages that Pygments does not have, such as `csv`: they stay without colours.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["wide.css"]
html_css_files = ["wide.css"]
html_copy_source = False
html_use_index = False


def navigation(readme: str) -> str:
    """Return the tables of contents that the rows of README's table of goals name."""
    parts = []
    for goal, links in re.findall(r"^\| (.+?) \| (.+) \|$", readme.partition(f"{GOALS}\n")[2], re.MULTILINE):
        pages = re.findall(r"\[([^]]+)\]\(([^):]+)\.md\)", links)
        if pages:
            entries = "\n".join(f"{title} </{page}>" for title, page in pages)
            parts.append(f"```{{toctree}}\n:hidden:\n:caption: {goal[0].upper()}{goal[1:]}\n\n{entries}\n```")
    return "\n\n".join(parts)


def _add_navigation(_: Sphinx, name: str, source: list[str]) -> None:
    if name == FRONT:
        source[0] += f"\n\n{navigation(source[0])}\n"


def _add_index(app: Sphinx, error: Exception | None) -> None:
    """Servers and people look for index.html first."""
    if error is None:
        shutil.copy(Path(app.outdir, f"{FRONT}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Connect the two changes to Sphinx: the navigation, and the name of the front page."""
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _add_index)
