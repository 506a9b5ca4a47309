"""The site of all documents: links and anchors lead somewhere, every page has a place, nothing is fetched."""

import re
import shlex
import shutil
import sys

import pytest

from tests.command import run
from tests.conftest import ROOT, need
from tests.document_commands import DOCUMENTS


def build(root, out):
    """Run the command of `make docs` for a copy of the repository."""
    need("sphinx", "myst_parser", "furo")
    dry_run = run("make", "--dry-run", "--no-print-directory", "docs", cwd=ROOT, check=True).stdout
    (line,) = re.findall(r"^\S+python (-m sphinx .*)", dry_run.replace("\\\n", " "), re.MULTILINE)
    *words, doctrees, source, _ = shlex.split(line)
    assert (doctrees, source) == ("build/doctrees", ".")
    return run(sys.executable, *words, out.with_suffix(".doctrees"), source, out, cwd=root)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "site"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


def test_each_document_is_a_page(site):
    for document in DOCUMENTS:
        assert (site / document.relative_to(ROOT)).with_suffix(".html").is_file()
    front = (site / "index.html").read_text(encoding="utf-8")
    assert front == (site / "README.html").read_text(encoding="utf-8")
    assert re.findall(r'<span class="caption-text">([^<]+)<', front)[:2] == ["Begin", "Train on my own speech"]


def test_no_link_of_a_page_leaves_the_site_for_a_document(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(DOCUMENTS)
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_site_loads_nothing_from_elsewhere(site):
    """Fonts, styles and scripts are in it; links that a reader follows may lead out."""
    page = r'<(?:script|img|iframe|source)[^>]*? src="([^"]*)|<link[^>]*? href="([^"]*)'
    style = r"""url\(["']?([^"')]*)|@import ["']([^"']*)"""
    texts = [
        (pattern, path) for pattern, suffix in ((page, "html"), (style, "css")) for path in site.rglob(f"*.{suffix}")
    ]
    found = [each for pattern, path in texts for each in re.findall(pattern, path.read_text(encoding="utf-8"))]
    loaded = ["".join(each) for each in found]
    assert len(loaded) > 100
    assert [each for each in loaded if re.match(r"(?:https?:)?//", each)] == []


def test_a_wrong_anchor_and_a_page_without_a_place_fail(tmp_path):
    for name in run("git", "ls-files", "*.md", "*.svg", "*.png", "*.css", cwd=ROOT, check=True).stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / ".sphinx" / "conf.py", tmp_path / ".sphinx")
    with (tmp_path / "README.md").open("a") as readme:
        readme.write("\n[a place that was renamed](edge_runtime/DEVICE.md#no-such-place)\n")
    (tmp_path / "export" / "NEW.md").write_text("# A page that README does not link\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-place" in done.stderr
    assert re.search(r"NEW\.md: WARNING: document isn't included in any toctree", done.stderr)
