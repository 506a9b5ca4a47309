"""What the libraries underneath do on their own: no reports to their makers, no threads beyond those requested."""

import os
from pathlib import Path

import pytest

from tests.command import python
from tests.conftest import tone


def run_at_home(code: str, home, **environment: str) -> str:
    """Run Python with a home directory of its own, outside of what libraries take for a test or a build server."""
    known = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")
    clean = {name: value for name, value in os.environ.items() if name not in known}
    done = python("-c", code, env=clean | {"HOME": str(home)} | environment, check=True)
    return done.stdout


@pytest.mark.parametrize("first", ["", "import export; "])
def test_onnx_runtime_keeps_nothing_to_report(untrained_bundle, tmp_path, first):
    code = (
        f"{first}from edge_runtime.bundles.bundle import load_bundle\n"
        "from edge_runtime.engines.engine import OnnxEngine\n"
        "from pathlib import Path; import numpy as np\n"
        f"engine = OnnxEngine.of(load_bundle(Path({str(untrained_bundle)!r})))\n"
        "print(len(engine.score(np.zeros(16000, np.float32)).logits))"
    )
    assert int(run_at_home(code, tmp_path)) > 1
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_a_user_may_choose_otherwise(tmp_path):
    code = "import os, edge_runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_at_home(code, tmp_path, ORT_DISABLE_TELEMETRY="0").strip() == "0"


def test_the_speech_detector_works_in_one_thread(tmp_path):
    frame = tone(0.032).tolist()
    code = (
        "import os, numpy as np\n"
        "from edge_runtime.sources.silero import SileroDetector\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "detector = SileroDetector()\n"
        f"frame = np.array({frame}, np.float32)\n"
        "for _ in range(10): detector.probabilities(frame)\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc")
    assert run_at_home(code, tmp_path).strip() == "0"
