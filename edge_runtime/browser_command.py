"""`edgeemo browser`: a web page that runs a bundle in the browser."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edge_runtime.browser.onnxruntime_web import runtime_files
from edge_runtime.browser.page import graph_for_browsers, write_page
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.console import console


@click.command("browser")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of the page; an older page is replaced.",
)
@click.option(
    "--onnxruntime-web",
    "archive",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The package onnxruntime-web as `npm pack` writes it.  [default: fetched by npm, once]",
)
def browser_command(bundle: Path | None, out: Path, archive: Path | None) -> None:
    """Make a web page that listens to the microphone, or scores a file, with BUNDLE, in the browser itself.

    Without BUNDLE, the installed default bundle is used. The page is a directory of files for any web server; it loads
    nothing from elsewhere, and audio does not leave it. Browsers give a microphone to pages of https or localhost only.
    npm fetches ONNX Runtime for browsers once, 33 MB, from the registry that it is set to.

    \b
    Examples:
      edgeemo browser --out page
      edgeemo browser BUNDLE --out page --onnxruntime-web onnxruntime-web-1.30.0.tgz
    """
    loaded = load_bundle(bundle or DEFAULT_BUNDLE)
    precision = graph_for_browsers(loaded)
    if refused := loaded.refused_by_gate(precision):
        console.print(f"  {refused}", style="yellow")
    sizes = write_page(loaded, out, lambda: runtime_files(archive, say=lambda text: console.print(f"  {text}")))
    graph, runtime, vad, rest = (f"{size / 1e6:.1f} MB" for size in sizes)
    console.print(f"  {precision} graph {graph}, ONNX Runtime {runtime}, voice activity detection {vad}, page {rest}")
    serve = f"python3 -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(out))}"
    console.print(f"{out}: {sum(sizes) / 1e6:.1f} MB; next: {serve}, then open http://127.0.0.1:8000")
