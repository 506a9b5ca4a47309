"""A bundle that was changed in any way is refused, with a reason; what is hostile about one: test_hostile_bundles."""

import shutil

import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import GRAPHS
from edge_runtime.errors import EdgeemoError
from tests.conftest import edgeemo
from tests.plain_bundles import change

MADE = [name for name, precision in GRAPHS.items() if precision != "fp16"]
"""What `edgeemo export --int8` makes."""


@pytest.fixture
def copy(bundle_dir, tmp_path):
    shutil.copytree(bundle_dir, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_loads(bundle_dir):
    bundle = load_bundle(bundle_dir)
    assert bundle.precisions == ("fp32", "int8-cpu", "int8-trt")
    assert bundle.manifest.labels == ("angry", "happy", "neutral", "sad")
    assert bundle.reference().shape == (1, bundle.manifest.statistics_size)
    others = {"README.md", "known-answers.pcm", "report.json", "report.md", "training-speech.u32"}
    assert {entry.name for entry in bundle.manifest.files} == {*MADE, *others}


@pytest.mark.parametrize("name", [*MADE, "README.md"])
def test_changed_byte(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(EdgeemoError, match="differs from the file in the manifest"):
        load_bundle(copy)


def test_missing_file(copy, clip):
    (copy / "model.fp32.onnx").unlink()
    with pytest.raises(EdgeemoError, match="is missing from the bundle"):
        load_bundle(copy)
    done = edgeemo("listen", copy, "--source", clip)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_unknown_major_version(copy):
    change(copy, lambda content: content.update(schema_version="4.0"))
    with pytest.raises(EdgeemoError, match=r"schema version '4\.0', and this edgeemo reads 3\.x"):
        load_bundle(copy)


def test_newer_minor_version_loads(copy):
    def newer(content):
        content.update(schema_version="3.9", invented_later=[1, 2])
        content["window"]["pad"] = 0.5
        content["metrics"]["int4-gpu"] = content["metrics"]["fp32"]

    change(copy, newer)
    assert load_bundle(copy).manifest.schema_version == "3.9"


def test_hash_covers_everything(bundle_dir, copy):
    before = load_bundle(bundle_dir).hash
    change(copy, lambda content: content.update(threshold=0.5))
    assert load_bundle(copy).hash != before
