"""A bundle may come from an untrusted source: whatever is wrong with it, loading refuses it in one sentence."""

import json
import os
import shutil
import socket
import tarfile
import zipfile

import numpy as np
import pytest

from edge_runtime.bundles.bundle import LARGEST_MANIFEST, Bundle, load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from tests.conftest import invoke
from tests.plain_bundles import GRAPH, change, entry, plain_graph, save_plain_bundle


@pytest.fixture
def bundle(tmp_path):
    return save_plain_bundle(tmp_path / "bundle")


def refused(bundle, expected):
    with pytest.raises(EdgeemoError, match=expected) as caught:
        load_bundle(bundle)
    message = caught.value.message
    # One line of a sane length, nothing that a terminal obeys.
    assert message.isprintable()
    assert len(message) < 600


def test_the_plain_bundle_is_sound(bundle):
    loaded = load_bundle(bundle)
    scores = OnnxEngine.of(loaded).score(np.full(16_000, 0.5, np.float32))
    assert scores.logits == pytest.approx([0.25, 0.5, 0.75])
    assert scores.statistics == pytest.approx([1.0] * 4)


NAMES = {
    "outside the bundle": ["/etc/hostname", "a/../../x", "a/..", "..", "..\\x", "a\\b", "C:x", "c:/x", "//x"],
    "names in a bundle consist of": ["", ".", "./x", "a//b", "a/", ".hidden", "x\n", "-x", "é", "~/x", "a" * 201],
    r"'files\.1\.name': has control characters": ["x\0", "README.md\0.onnx", "\x1b[2Jx", "x\r", "\u202ex"],
    "twice, or its own manifest": ["bundle.json", "BUNDLE.json", GRAPH, GRAPH.upper()],
}


class TestNames:
    @pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason in NAMES for name in NAMES[reason]])
    def test_names_that_are_refused(self, bundle, reason, name):
        change(bundle, lambda content: content["files"][1].update(name=name))
        refused(bundle, reason)

    def test_a_file_in_a_folder_is_fine(self, bundle):
        (bundle / "more").mkdir()
        (bundle / "more" / "x.txt").write_text("x")
        change(bundle, lambda content: content["files"].append(entry(bundle, "more/x.txt")))
        assert load_bundle(bundle).manifest.files[2].name == "more/x.txt"


class TestLinksAndKinds:
    def test_the_bundle_itself_may_be_a_link(self, bundle, tmp_path):
        (tmp_path / "current").symlink_to(bundle)
        loaded = load_bundle(tmp_path / "current")
        assert OnnxEngine.of(loaded).score(np.zeros(4_000, np.float32)).logits.shape == (3,)

    @pytest.mark.parametrize("name", [GRAPH, "README.md", "bundle.json"])
    @pytest.mark.parametrize("inside", [True, False])
    def test_link(self, bundle, tmp_path, name, inside):
        target = (bundle if inside else tmp_path) / "elsewhere"
        shutil.move(bundle / name, target)
        (bundle / name).symlink_to(target)
        refused(bundle, "symbolic link, which may lead outside the bundle")

    def test_link_to_nothing(self, bundle):
        (bundle / "bundle.json").unlink()
        (bundle / "bundle.json").symlink_to("nowhere")
        refused(bundle, "symbolic link")

    def test_folder_that_is_a_link(self, bundle, tmp_path):
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "x.txt").write_text("x")
        (bundle / "more").symlink_to(tmp_path / "more")
        change(bundle, lambda content: content["files"].append(entry(bundle, "more/x.txt")))
        refused(bundle, "lies behind a symbolic link")

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("name", [GRAPH, "bundle.json"])
    @pytest.mark.parametrize("kind", ["pipe", "directory", "socket", "device"])
    def test_no_regular_file(self, bundle, name, kind, monkeypatch):
        (bundle / name).unlink()
        if kind == "pipe":
            os.mkfifo(bundle / name)
        elif kind == "directory":
            (bundle / name).mkdir()
        elif kind == "socket":
            # The path of a socket is limited to some hundred characters.
            monkeypatch.chdir(bundle)
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(name)
        else:
            try:
                os.mknod(bundle / name, 0o600 | 0o020000, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only root makes devices")
        refused(bundle, f"is a {kind} where the bundle needs a file")

    def test_file_where_a_folder_should_be(self, bundle):
        change(bundle, lambda content: content["files"][1].update(name=f"{GRAPH}/x"))
        refused(bundle, "is a file where the bundle needs a directory")

    def test_unreadable(self, bundle):
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        (bundle / GRAPH).chmod(0)
        refused(bundle, "cannot be read")

    @pytest.mark.parametrize("kind", ["zip", "tar", "text"])
    def test_an_archive_is_not_unpacked(self, bundle, tmp_path, kind):
        path = tmp_path / f"bundle.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(bundle / "bundle.json", "../bundle.json")
        elif kind == "tar":
            with tarfile.open(path, "w") as archive:
                archive.add(bundle, "bundle")
        else:
            path.write_text("x")
        before = sorted(tmp_path.rglob("*"))
        done = invoke("listen", path, "--source", "-", stdin=b"")
        assert done.returncode == 1
        assert "is a file, and a bundle is a directory; unpack an archive first" in done.stderr
        assert done.stderr.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("call.WAV", "audio goes to: edgeemo listen --source"),
            ("edge.toml", "settings go to: edgeemo listen --config"),
            ("model.fp32.onnx", "name the directory"),
        ],
    )
    def test_another_file_in_its_place(self, tmp_path, name, expected):
        (tmp_path / name).write_text("x")
        refused(tmp_path / name, f"{name}: is a file, and a bundle is a directory; {expected}")

    def test_no_bundle(self, tmp_path):
        refused(tmp_path / "nothing", "no such bundle directory")
        refused(tmp_path, "is not a bundle")


def other_graph():
    """Return a graph of the same size that gives other statistics."""
    other = plain_graph()
    other.graph.node[2].op_type = "Sub"
    return other.SerializeToString()


class TestSizes:
    def test_manifest(self, bundle):
        with (bundle / "bundle.json").open("a") as file:
            file.write(" " * LARGEST_MANIFEST)
        refused(bundle, "is larger than 4 MB")
        with (bundle / "bundle.json").open("r+b") as file:
            file.truncate(1 << 40)  # which is not read
        refused(bundle, "is larger than 4 MB")

    def test_size_is_checked_before_anything_is_read(self, bundle):
        with (bundle / GRAPH).open("r+b") as file:
            # A terabyte of holes: to hash it would take an hour.
            file.truncate(1 << 40)
        refused(bundle, "differs from the file in the manifest")

    @pytest.mark.parametrize("size", [-1, 1 << 31, 10**18, 1.5, "7", None, True])
    def test_size_in_the_manifest(self, bundle, size):
        change(bundle, lambda content: content["files"][0].update(size=size))
        # pydantic reads "7" and True as numbers; then the file has another size.
        refused(bundle, r"files\.0\.size|differs from the file")

    def test_entries(self, bundle):
        change(bundle, lambda content: content.update(files=content["files"] * 60))
        refused(bundle, "'files': .* at most 100")

    def test_no_graph(self, bundle):
        change(bundle, lambda content: content["files"].pop(0))
        refused(bundle, "names no graph")

    def test_a_graph_that_is_exchanged_after_loading(self, bundle):
        loaded = load_bundle(bundle)
        content = other_graph()
        assert len(content) == (bundle / GRAPH).stat().st_size
        (bundle / GRAPH).write_bytes(content)
        with pytest.raises(EdgeemoError, match="differs from the file in the manifest"):
            OnnxEngine.of(loaded)

    def test_a_graph_that_is_exchanged_after_it_was_hashed(self, bundle, monkeypatch):
        """What is loaded is what was hashed: the file is not read a second time."""
        read = Bundle.read_graph

        def exchange(loaded, *given):
            content = read(loaded, *given)
            (bundle / GRAPH).write_bytes(other_graph())
            return content

        monkeypatch.setattr(Bundle, "read_graph", exchange)
        engine = OnnxEngine.of(load_bundle(bundle))
        assert (bundle / GRAPH).read_bytes() == other_graph()
        # 0.25 + 0.5; the other graph would give 0.25 - 0.5.
        assert engine.score(np.full(4_000, 0.25, np.float32)).statistics[0] == 0.75


class TestValues:
    @pytest.mark.parametrize("kind", ["list", "object"])
    @pytest.mark.parametrize("levels", [40, 100_000])
    def test_nested(self, bundle, kind, levels):
        text = (bundle / "bundle.json").read_text()
        opening, closing = ("[", "]") if kind == "list" else ('{"a":', "}")
        nested = opening * levels + "0" + closing * levels
        (bundle / "bundle.json").write_text(text.replace('"recipe": {', f'"recipe": {{"x": {nested}, '))
        refused(bundle, "nested too deeply")

    @pytest.mark.parametrize(
        "number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 5_000, "1." + "0" * 50]
    )
    @pytest.mark.parametrize("key", ["temperature", "threshold", "level_db", "recipe"])
    def test_numbers_that_are_none(self, bundle, key, number):
        content = json.loads((bundle / "bundle.json").read_text())
        content[key] = {"seed": "HERE"} if key == "recipe" else "HERE"
        (bundle / "bundle.json").write_text(json.dumps(content).replace('"HERE"', number))
        refused(bundle, "is not a number|for a number")

    @pytest.mark.parametrize(
        ("edit", "expected"),
        [
            (lambda c: c.update(temperature=0), "'temperature'"),
            (lambda c: c.update(temperature=1e-300), "'temperature'"),
            (lambda c: c.update(temperature=1e300), "'temperature'"),
            (lambda c: c.update(threshold=-0.1), "'threshold'"),
            (lambda c: c.update(threshold=1.1), "'threshold'"),
            (lambda c: c.update(statistics_size=-4), "'statistics_size'"),
            (lambda c: c.update(statistics_size=10**9), "'statistics_size'"),
            (lambda c: c.update(reference=[1e39] * 4), r"'reference\.0'"),
            (lambda c: c.update(reference=[0.0] * 5), "the reference has 5 numbers, not 4"),
            (lambda c: c.update(sample_rate=8_000), "'sample_rate'"),
            (lambda c: c["encoder"].update(layers=-1), r"'encoder\.layers'"),
            (lambda c: c["macs"].update(encoder=-1), r"'macs\.encoder'"),
            (lambda c: c["corpora"][0].update(hours=-1), r"'corpora\.0\.hours'"),
            (lambda c: c["window"].update(seconds=1e9), r"'window\.seconds'"),
            (lambda c: c["window"].update(segment_seconds=1e9), r"'window\.segment_seconds'"),
            (lambda c: c["window"].update(hop_seconds=1e-9), r"'window\.hop_seconds'"),
            (lambda c: c["window"].update(minimum_seconds=5), "minimum_seconds <= seconds"),
            (lambda c: c.pop("labels"), "'labels'"),
            (lambda c: c.update(labels=["a"]), "'labels'"),
            (lambda c: c.update(labels=["a", "b", "a"]), "names a label twice"),
            (lambda c: c.update(labels=[str(n) for n in range(101)]), "'labels'"),
            (lambda c: c.update(labels=["a" * 65, "b"]), r"'labels\.0'"),
            (lambda c: c.update(labels=["", "b"]), r"'labels\.0'"),
            (lambda c: c.update(labels=[" a", "b"]), "printable characters, with no space around"),
            (lambda c: c.update(labels=["a\nb", "b"]), "printable characters"),
            (lambda c: c.update(labels=["\x1b]0;owned\x07", "b"]), r"'labels\.0': has control characters"),
            (lambda c: c.update(labels=["\ud800", "b"]), "control characters"),
            (lambda c: c["corpora"][0].update(note="fine\rhidden"), r"'corpora\.0\.note': has control"),
            (lambda c: c["metrics"].update({"k" * 500: {}}), "'metrics.kkk"),
            (lambda c: c.update(schema_version="2\x1b[31m"), "control characters"),
            (lambda c: c.update(schema_version="2" * 5_000), "has schema version '2222222222222222222…'"),
            (lambda c: c.update(schema_version={"1": 1}), "schema version"),
            (lambda c: c.update(schema_version="3.1\nremedy: reboot"), "'schema_version'"),
            (lambda c: c["files"][0].update(sha256="0" * 63 + "\n"), "control|sha256"),
            (lambda c: c["files"][0].update(sha256="A" * 64), "sha256"),
        ],
    )
    def test_values_that_make_no_sense(self, bundle, edit, expected):
        change(bundle, edit)
        refused(bundle, expected)

    def test_lines_in_a_licence_are_fine(self, bundle):
        change(bundle, lambda c: c["corpora"][0].update(note="one\r\ntwo\n\tthree", citation="김철수, “…”"))
        assert load_bundle(bundle).manifest.corpora[0].citation == "김철수, “…”"

    @pytest.mark.parametrize(
        "content", [b"", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"{" * 10, b"\xc3\x28", b"{}\0"]
    )
    def test_no_json(self, bundle, content):
        (bundle / "bundle.json").write_bytes(content)
        refused(bundle, "is not valid JSON")

    @pytest.mark.parametrize("content", [b"[]", b"null", b"7", b'"1.0"', b"{}"])
    def test_another_json(self, bundle, content):
        (bundle / "bundle.json").write_bytes(content)
        refused(bundle, "schema version ''")

    def test_key_twice(self, bundle):
        text = (bundle / "bundle.json").read_text()
        (bundle / "bundle.json").write_text(text.replace('"threshold"', '"temperature": 2.0, "threshold"'))
        refused(bundle, "names a key twice")
