"""The tree that `make dist` builds from: ``python -m tests.release_tree build/release https://host/owner/edgeemo``.

It is the last commit. A package index shows README.md alone, where links to other files lead nowhere: they get the
public address of the repository in front, as of the release's tag; without an address, their text alone is left.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click

import edge_runtime
from tests.document_commands import ROOT

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!#|\w+:)([^)]+)\)")


def for_an_index(readme: str, repository: str | None, tag: str) -> str:
    """Return a README whose links do not depend on the place where it is shown."""

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if repository is None:
            return text
        return f"{image}[{text}]({repository.rstrip('/')}/{'raw' if image else 'blob'}/{tag}/{target})"

    return _LINK.sub(link, readme)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("repository", required=False)
def main(out: Path, repository: str | None) -> None:
    """Write the tree to OUT, for a REPOSITORY at this public address."""
    out.mkdir(parents=True)
    commit = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(out)], input=commit, check=True)
    readme, project = out / "README.md", out / "pyproject.toml"
    text = for_an_index(readme.read_text(encoding="utf-8"), repository, f"v{edge_runtime.__version__}")
    readme.write_text(text, encoding="utf-8")
    if repository is not None:
        with project.open("a", encoding="utf-8") as file:
            file.write(f'\n[project.urls]\nRepository = "{repository}"\n')


if __name__ == "__main__":
    main()
