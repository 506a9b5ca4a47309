"""`edgeemo browser`: what it writes, and what it refuses."""

import contextlib
import http.server
import os
import shutil
import stat
import threading

import pytest

from edge_runtime.browser import onnxruntime_web
from edge_runtime.browser.page import write_page
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import WrongUseError
from tests.conftest import absent, edgeemo, invoke
from tests.plain_bundles import change, save_plain_bundle

ARCHIVE = f"onnxruntime-web-{onnxruntime_web.VERSION}.tgz"


def npm_that(folder, script, monkeypatch):
    """Put a program called npm before all others."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_default_bundle_becomes_a_page(archive, tmp_path):
    out = tmp_path / "page"
    done = edgeemo("browser", "--out", out, "--onnxruntime-web", archive)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "python3 -m http.server --bind 127.0.0.1 --directory" in done.stderr
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"index.html", "page.json", "model.int8.cpu.onnx", "silero-vad.onnx", "model-card.txt"} <= names
    assert {f"onnxruntime-web/{name}" for name in onnxruntime_web.FILES} <= names
    licences = (out / "licences.txt").read_text(encoding="utf-8")
    assert "research use only" in licences
    assert "Microsoft" in licences
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "connect-src 'self'" in page
    assert "://" not in page
    (out / "left.txt").touch()
    again = edgeemo("browser", "--out", out, "--onnxruntime-web", archive)
    assert again.returncode == 0, again.stderr
    assert not (out / "left.txt").exists()


def test_another_bundle_with_a_float_graph(archive, tmp_path):
    bundle = save_plain_bundle(tmp_path / "bundle")
    invoke("browser", bundle, "--out", tmp_path / "page", "--onnxruntime-web", archive, code=0)
    assert (tmp_path / "page" / "model.fp32.onnx").is_file()
    assert "research use only" not in (tmp_path / "page" / "licences.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("verified", [True, False])
def test_a_model_card_is_published_only_if_it_was_verified(tmp_path, verified):
    bundle = save_plain_bundle(tmp_path / "bundle")
    if not verified:
        # A stranger's bundle: the file is not in the manifest, and leads to one of the user's.
        (tmp_path / "private").write_text("the user's key")
        (bundle / "README.md").unlink()
        (bundle / "README.md").symlink_to(tmp_path / "private")
        change(bundle, lambda manifest: manifest["files"].pop())
    write_page(load_bundle(bundle), tmp_path / "page", dict)
    card = (tmp_path / "page" / "model-card.txt").read_text(encoding="utf-8")
    assert card == ("A bundle without a student, for tests.\n" if verified else "The bundle has no model card.\n")


def not_called():
    raise AssertionError("33 MB for a place that cannot be written to")


@pytest.mark.parametrize("name", ["notes.txt", "page.json", "silero-vad.onnx", "static/silero.js"])
def test_a_directory_with_something_else_is_left_alone(tmp_path, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).touch()
    with pytest.raises(WrongUseError, match="exists and is no page of edgeemo; give another --out"):
        write_page(load_bundle(save_plain_bundle(tmp_path / "bundle")), tmp_path / "out", not_called)
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert kept == [tmp_path / "out" / name]


@pytest.mark.parametrize("out", [".", "..", ""])
def test_the_present_directory_cannot_be_replaced(archive, tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = invoke("browser", "--out", out, "--onnxruntime-web", archive, code=2)
    assert done.stderr.endswith("cannot be replaced by a page of edgeemo; give the path of a new directory as --out\n")
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_another_archive_is_refused(tmp_path):
    other = tmp_path / ARCHIVE
    other.write_bytes(b"another package")
    done = invoke("browser", "--out", tmp_path / "page", "--onnxruntime-web", other, code=2)
    assert "is not onnxruntime-web 1." in done.stderr
    assert "npm pack onnxruntime-web@" in done.stderr
    assert not (tmp_path / "page").exists()


def test_a_bundle_without_a_graph_for_browsers(tmp_path):
    bundle = save_plain_bundle(tmp_path / "bundle")
    (bundle / "model.fp32.onnx").rename(bundle / "model.fp16.onnx")
    change(bundle, lambda manifest: manifest["files"][0].update(name="model.fp16.onnx"))
    done = invoke("browser", bundle, "--out", tmp_path / "page", code=2)
    assert "holds no graph for a browser (it has fp16); export it with --int8" in done.stderr


@pytest.mark.usefixtures("empty_cache")
def test_without_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = invoke("browser", "--out", tmp_path / "page", code=2)
    assert "npm is not installed" in done.stderr
    assert "--onnxruntime-web FILE" in done.stderr


@pytest.mark.usefixtures("empty_cache")
def test_npm_without_a_network(tmp_path, monkeypatch):
    said = "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error network \033[2Jrequest failed"
    npm_that(tmp_path / "bin", f"echo '{said}' >&2; exit 1", monkeypatch)
    done = invoke("browser", "--out", tmp_path / "page", code=2)
    assert "npm cannot fetch onnxruntime-web" in done.stderr
    assert r"(network \x1b[2Jrequest failed)" in done.stderr


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry without packages."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.mark.usefixtures("empty_cache")
def test_npm_takes_no_settings_of_the_directory_that_it_is_called_in(tmp_path, monkeypatch):
    if shutil.which("npm") is None:
        absent("npm")
    folder, home = tmp_path / "stranger", tmp_path / "home"
    with contextlib.ExitStack() as stack:
        servers = {}
        for place in (folder, home):
            place.mkdir()
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry))
            server.asked = []
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever).start()
            # npm inserts the variable.
            address = f"http://127.0.0.1:{server.server_port}/${{SECRET}}/"
            (place / ".npmrc").write_text(f"registry={address}\nfetch-retries=0\n")
            servers[place] = server
        (folder / "package.json").write_text("{}")
        for name in [each for each in os.environ if each.lower().startswith("npm_config_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("SECRET", "token")
        monkeypatch.chdir(folder)
        invoke("browser", "--out", tmp_path / "page", code=2)
    assert servers[folder].asked == []
    # It also asks for newer versions of itself.
    assert "/token/onnxruntime-web" in servers[home].asked


@pytest.mark.usefixtures("empty_cache")
def test_a_registry_with_other_content(tmp_path, monkeypatch):
    npm_that(
        tmp_path / "bin", f'while [ "$1" != --pack-destination ]; do shift; done; echo x > "$2/{ARCHIVE}"', monkeypatch
    )
    done = invoke("browser", "--out", tmp_path / "page", code=1)
    assert "npm fetched another onnxruntime-web" in done.stderr
    assert not (tmp_path / "page").exists()
    assert not list((tmp_path / "cache").rglob("*.tgz"))
