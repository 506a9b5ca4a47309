"""The runtime installs from wheels alone on every device that is promised: pip resolves for its platform.

pip takes environment markers from the Python that it runs in, so `tomli` of Python 3.10, a wheel for any platform, is
not asked for here.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.pip_commands import pip

GLIBC = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28")
"""Of manylinux: JetPack 6 and Raspberry Pi OS 12 have newer ones, which take wheels for all of these."""
DEVICES = [("aarch64", "3.10"), ("aarch64", "3.12"), *(("x86_64", f"3.{minor}") for minor in (10, 11, 12, 13))]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "version"), DEVICES)
def test_resolves_from_wheels(distributions, architecture, version, tmp_path):
    (wheel,) = distributions.glob("*.whl")
    report = tmp_path / "report.json"
    asked = ["--dry-run", "--report", report, "--target", tmp_path / "target"]
    asked += ["--only-binary=:all:", "--implementation", "cp"]
    asked += [f"--platform=manylinux{each}_{architecture}" for each in GLIBC]
    asked += ["--python-version", version, "--abi", f"cp{version.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    pip(sys.executable, "install", "--quiet", *asked, f"{wheel}[mqtt,web]")
    found = {
        each["metadata"]["name"]: each["download_info"]["url"] for each in json.loads(report.read_text())["install"]
    }
    assert {"onnxruntime", "numpy", "soxr", "paho-mqtt", "starlette", "edgeemo"} <= set(found)
    assert all(url.endswith(".whl") for url in found.values())
    native = [Path(url).name for url in found.values() if not url.endswith("-any.whl")]
    assert native
    assert all(architecture in name for name in native)
    assert not {"torch", "scipy", "onnx", "transformers"} & set(found)
