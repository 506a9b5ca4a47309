"""The runtime stays light: nothing that a small device lacks is imported on the way to an event."""

import json
import subprocess
import sys

import pytest

from tests.conftest import edgeemo

HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "opensmile",
    "sklearn",
    "scipy",
    "matplotlib",
    "jinja2",
    "distill",
    "export",
    "benchmarks",
)


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import edge_runtime",
        "from click.testing import CliRunner; from edge_runtime.cli import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0",
        "import edge_runtime.listen_command, edge_runtime.sources.microphone, edge_runtime.backends",
        "import edge_runtime.build_command",
        # No packages, so that import-linter does not see them.
        "import edge_runtime.examples.score_folder, edge_runtime.examples.robot, edge_runtime.examples.home_assistant",
    ],
)
def test_no_heavy_import(code):
    assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize("command", ["demo", "distill", "export", "bench"])
def test_help_needs_no_extra(command):
    code = (
        "from click.testing import CliRunner; from edge_runtime.cli import main; "
        f"done = CliRunner().invoke(main, [{command!r}, '--help']); assert done.exit_code == 0, done.output"
    )
    assert not modules_after(code) & set(HEAVY[: HEAVY.index("distill")])


def test_listening_imports_nothing_heavy(bundle_dir, clip):
    code = (
        "from click.testing import CliRunner; from edge_runtime.cli import main; "
        f"done = CliRunner().invoke(main, ['listen', {str(bundle_dir)!r}, '--source', {str(clip)!r}, '--json']); "
        "assert done.exit_code == 0, done.output"
    )
    assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "distill.corpora",
        "distill.corpus_command",
        "distill.teachers.own",
        "distill.folds",
        "distill.evaluation.metrics",
    ],
)
def test_these_need_no_torch(module):
    assert not modules_after(f"import {module}") & {"torch", "transformers"}


def test_helpers_that_read_audio_for_training_import_little():
    """They start anew for every corpus."""
    modules = modules_after("import distill.checks.audio_scan, distill.teachers.egemaps")
    assert not modules & {"torch", "transformers", "pandas", "scipy", "sklearn"}


def test_help_is_fast_and_complete():
    done = edgeemo("--help")
    assert done.returncode == 0
    for name in ("demo", "corpus", "distill", "export", "build", "listen", "profile", "bench", "doctor"):
        assert name in done.stdout
