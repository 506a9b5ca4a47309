"""The runtime stays light: nothing that a small device lacks is imported on the way to an event."""

import ast
import json
import re

from tests.command import python
from tests.conftest import ROOT

HEAVY = (
    "torch", "transformers", "onnx", "opensmile", "sklearn", "scipy", "matplotlib", "jinja2", "distill", "export",
    "benchmarks",
)  # fmt: skip


def imported_by(*steps: str) -> dict[str, set[str]]:
    """Run steps of a program in one process, and return the packages that are imported after each."""
    code = "import json, sys\nfound = {}\n"
    for step in steps:
        code += f"{step}\nfound[{step!r}] = sorted({{name.partition('.')[0] for name in sys.modules}})\n"
    code += "print(json.dumps(found))"
    done = python("-c", code, check=True)
    return {step: set(names) for step, names in json.loads(done.stdout.splitlines()[-1]).items()}


def none_of(names, found):
    assert {step: packages & set(names) for step, packages in found.items() if packages & set(names)} == {}


def call(*words):
    return (
        "from click.testing import CliRunner; from edge_runtime.cli import main; "
        f"done = CliRunner().invoke(main, {list(map(str, words))!r}); assert done.exit_code == 0, done.output"
    )


def test_listening_imports_nothing_heavy(bundle_dir, clip):
    found = imported_by(
        "import edge_runtime",
        call("--help"),
        "import edge_runtime.listen_command, edge_runtime.sources.microphone, edge_runtime.backends",
        "import edge_runtime.build_command",
        # No packages, so that import-linter does not see them.
        "import edge_runtime.examples.score_folder, edge_runtime.examples.robot, edge_runtime.examples.home_assistant",
        call("listen", bundle_dir, "--source", clip, "--json"),
    )
    assert "numpy" not in found["import edge_runtime"]
    none_of(HEAVY, found)


def test_a_sink_that_is_not_used_is_not_imported():
    found = imported_by("import edge_runtime.sinks.open, edge_runtime.sinks.group")
    none_of(("paho", "starlette", "uvicorn", "rich"), found)


def test_help_needs_no_extra():
    found = imported_by(*(call(command, "--help") for command in ("demo", "distill", "export", "bench")))
    none_of(HEAVY[: HEAVY.index("distill")], found)


def test_corpora_metrics_and_recipes_need_no_torch():
    modules = ("corpora", "corpus_command", "teachers.registry", "folds", "evaluation.metrics")
    none_of(("torch", "transformers"), imported_by(*(f"import distill.{module}" for module in modules)))


def test_reading_recipes_and_all_kinds_of_teachers_needs_no_torch():
    code = (
        "from distill.load_recipe import load_recipe; from distill.teachers.registry import BUILT_IN, find_kind; "
        "load_recipe('demo'); [find_kind(kind) for kind in BUILT_IN]"
    )
    none_of(("torch", "transformers", "pandas", "scipy", "sklearn"), imported_by(code))


def test_helpers_that_read_audio_for_training_import_little():
    """They start anew for every corpus."""
    found = imported_by("import distill.checks.audio_scan, distill.teachers.egemaps")
    none_of(("torch", "transformers", "pandas", "scipy", "sklearn"), found)


def test_no_module_of_the_runtime_names_a_package_above_it():
    """As a text that is imported, or as a word of a command: contracts see plain imports only."""
    found = []
    for path in sorted((ROOT / "edge_runtime").rglob("*.py")):
        if path.name in ("cli.py", "demo_command.py"):  # the two exceptions
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        arguments = [each for node in nodes if isinstance(node, ast.Call) for each in node.args]
        words = [each for node in nodes if isinstance(node, ast.List) for each in node.elts]
        for pattern, places in (
            (r"(distill|export|benchmarks)\.\w[\w.]*", arguments),
            (r"distill|export|bench", words),
        ):
            texts = [each.value for each in places if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            found += [(path.name, text) for text in texts if re.fullmatch(pattern, text)]
    assert found == []
