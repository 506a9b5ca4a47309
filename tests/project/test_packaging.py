"""What is installed: the wheel's content, and the base install in an environment without torch."""

import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import numpy as np
import pytest
import tomli

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from tests.command import python, run
from tests.conftest import ROOT, USERS_CACHE
from tests.document_commands import blocks
from tests.pip_commands import clean, pip
from tests.release_tree import for_an_index

(OLDEST,) = re.findall(r'"onnxruntime>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PRODUCTS = "edge_runtime/engines/largest_products.onnx"
SPEECH_DETECTION = "edge_runtime/sources/silero.onnx"


def copy_without_tests(folder):
    """Copy what git tracks, as it is here."""
    for name in run("git", "ls-files", cwd=ROOT, check=True).stdout.splitlines():
        if not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("edgeemo-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"benchmarks", "distill", "edge_runtime", "export"}
    patterns = ("*.py", "*.j2", "*.onnx", "*.pcm", "*.schema.json", "*/default/*", "*/static/*", "*/recipes/*.toml")
    patterns += ("*/edge.example.toml", "*/repository_readme.md")
    tracked = run("git", "ls-files", *patterns, cwd=ROOT, check=True).stdout.split()
    assert len([name for name in tracked if not name.endswith(".py")]) >= 13
    left_out = ("tests/", "benchmarks/lab/", ".sphinx/")
    assert {name for name in tracked if not name.startswith(left_out)} <= set(names)
    assert not [name for name in names if name.startswith(left_out)]
    assert not [name for name in names if name.endswith((".flac", ".ogg", ".wav", ".safetensors"))]
    graphs = [name for name in names if name.endswith(".onnx")]
    # The default bundle's, the one that INT8 products are tried with, and Silero's.
    assert all(name.startswith("edge_runtime/default/") or name in (PRODUCTS, SPEECH_DETECTION) for name in graphs)


@pytest.mark.slow
def test_the_index_will_take_what_is_built(distributions):
    files = sorted(map(str, distributions.iterdir()))
    assert len(files) == 2
    done = python("-m", "twine", "check", "--strict", *files)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_second_build_leaves_out_what_is_no_more(tmp_path):
    """As `pip install .` in a clone that was updated since the first one."""
    copy_without_tests(tmp_path)
    stale = tmp_path / "build" / "lib" / "edge_runtime" / "was_here_once.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "edge_runtime/cli.py" in names
    assert not [name for name in names if name.endswith(stale.name)]


@pytest.mark.slow
def test_the_base_install_listens_without_torch(wheel, bundle_dir, clip, tmp_path):
    """As on a device: a fresh environment, no extras."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"

    def run(*command):
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env=clean(), check=False
        )

    # In the versions that `make` installs, so that the wheels come from pip's cache.
    # Not compiled: a few processes import a part of it.
    pip(python, "install", "--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel)
    installed = {entry["name"] for entry in json.loads(pip(python, "list", "--format=json"))}
    assert "onnxruntime" in installed
    assert not installed & {"torch", "transformers", "onnx", "scikit-learn", "scipy", "opensmile", "matplotlib"}
    edgeemo = tmp_path / "venv" / "bin" / "edgeemo"
    assert run(edgeemo, "--help").returncode == 0
    done = run(edgeemo, "listen", "--source", clip)
    assert done.returncode == 0, done.stderr
    assert {json.loads(line).get("label") for line in done.stdout.splitlines()} & {"angry", "happy", "neutral", "sad"}
    done = run(edgeemo, "listen", "--source", clip, bundle_dir)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()].count("final") == 2
    for command in ("distill", "export", "bench", "demo"):
        assert "Example" in run(edgeemo, command, "--help").stdout
        rest = ["--out", "y"] if command == "demo" else ["x", "--corpus", "x", "--out", "y"]
        done = run(edgeemo, command, *rest)
        assert done.returncode == 2
        assert f'pip install "edgeemo[{command}]"' in done.stderr
    assert not (tmp_path / "y").exists()
    assert run(edgeemo, "doctor").returncode == 0
    (script,) = [each for each in blocks(ROOT / "edge_runtime" / "INSTALL.md", "sh") if "libonnxruntime" in each]
    (tmp_path / "distill").mkdir()
    # Without the environment nothing is removed from where one is.
    assert run("bash", "-c", f"python() {{ false; }}\n{script}").returncode != 0
    done = run("bash", "-c", f"PATH={python.parent}:$PATH\n{script}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "distill").is_dir()
    size = sum(path.stat().st_size for path in (tmp_path / "venv").rglob("*") if path.is_file())
    assert size < 150e6
    done = run(edgeemo, "listen", "--source", clip)
    assert done.returncode == 0, done.stderr
    assert '"type":"final"' in done.stdout
    assert run(edgeemo, "doctor").returncode == 0


@pytest.mark.slow
def test_the_first_commands_of_readme_give_a_label(clip, tmp_path):
    """Word for word, in a new home, but for the system packages, and with a recording instead of the microphone."""
    system, *lines = blocks(ROOT / "README.md", "sh")[0].splitlines()
    assert system.startswith("sudo apt-get update && sudo apt-get install ")
    assert lines[-1].endswith("edgeemo listen")
    copy_without_tests(tmp_path / "clone")
    # pip's cache is the user's, in the versions that `make` installs.
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(USERS_CACHE), "PIP_CONSTRAINT": "constraints.txt"}
    script = "\n".join(["set -e", *lines]) + f" --json --source {clip}"
    done = run("bash", "-c", script, cwd=tmp_path / "clone", env=clean() | environment)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    final = [event["label"] for event in events if event["type"] == "final"]
    assert final
    assert set(final) <= {"angry", "happy", "neutral", "sad"}
    assert (tmp_path / "edgeemo-venv" / "bin" / "edgeemo").is_file()


def test_links_of_readme_lead_somewhere_on_a_package_index():
    """As `make dist` writes them into what is uploaded, with a public address and without."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = re.findall(r"\]\((?!#|\w+:)([^)#]+)", readme)
    assert len(relative) > 20
    address = "https://host.example/owner/edgeemo"
    absolute = re.findall(r"\]\((?!#)([^)#]+)", for_an_index(readme, f"{address}/", "v1"))
    assert [each.removeprefix(f"{address}/blob/v1/") for each in absolute] == relative
    assert for_an_index("![plot](a/b.png)", address, "v1") == f"![plot]({address}/raw/v1/a/b.png)"
    without = for_an_index(readme, None, "v1")
    assert re.findall(r"\]\((?!#|\w+:)", without) == []
    assert "| begin | Installing, The first result |" in without


def test_a_release_is_built_from_the_last_commit_with_the_address_of_the_repository(tmp_path):
    address = "https://host.example/owner/edgeemo"
    done = python("-m", "tests.release_tree", tmp_path / "tree", address, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    project = tomli.loads((tmp_path / "tree" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"] == {"Repository": address}
    committed = run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=ROOT, check=True).stdout.splitlines()
    assert [name for name in committed if not (tmp_path / "tree" / name).is_file()] == []


@pytest.mark.slow
def test_the_oldest_promised_onnx_runtime_gives_the_known_answers(bundle_dir, tmp_path):
    """Devices run older software than the machine that exports; the default bundle goes to them as it is."""
    if sys.version_info[:2] not in ((3, 10), (3, 11), (3, 12)):
        pytest.skip(f"onnxruntime {OLDEST} has wheels for Python 3.10 to 3.12 only")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "install", "--quiet", "--no-compile", f"onnxruntime=={OLDEST}.*", "numpy<2")
    code = (
        "import json, sys, numpy as np, onnxruntime as ort\n"
        "options = ort.SessionOptions()\n"
        "options.add_session_config_entry('session.x64quantprecision', '1')\n"
        "found = {'version': ort.__version__}\n"
        "for path, (windows, reference) in json.load(open(sys.argv[1])).items():\n"
        "    # As the runtime opens it: TensorRT's form is a float simulation.\n"
        "    level = ort.GraphOptimizationLevel\n"
        "    options.graph_optimization_level = level.ORT_DISABLE_ALL if 'trt' in path else level.ORT_ENABLE_ALL\n"
        "    session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])\n"
        "    reference = np.array([reference], np.float32)\n"
        "    feeds = [{'pcm': np.load(name)[None], 'reference': reference} for name in windows]\n"
        "    found[path] = [session.run(['logits'], each)[0][0].tolist() for each in feeds]\n"
        "print(json.dumps(found))"
    )
    graphs, known = {}, {}
    for bundle in map(load_bundle, (bundle_dir, DEFAULT_BUNDLE)):
        names = []
        for number, window in enumerate(bundle.known_answers.windows):
            names.append(str(tmp_path / f"{bundle.root.name}-{number}.npy"))
            np.save(names[-1], window)
        for precision in bundle.precisions:
            path = str(bundle.graph(precision))
            graphs[path] = names, bundle.reference()[0].tolist()
            known[path] = bundle.known_answers.logits[precision], bundle.known_answers.tolerance
    assert len(graphs) == 4
    (tmp_path / "graphs.json").write_text(json.dumps(graphs))
    done = run(python, "-c", code, tmp_path / "graphs.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("version").startswith(f"{OLDEST}.")
    for path, logits in found.items():
        exact, tolerance = known[path]
        assert np.sqrt(np.square(np.array(logits) - exact).mean()) < tolerance, path


def test_no_file_names_a_registry_or_a_path_of_this_machine():
    tracked = run("git", "ls-files", cwd=ROOT, check=True).stdout.split()
    # Reversed, or this file would name them.
    forbidden = [each[::-1] for each in ("sleehw/tpo/", "ipyp/tpo/", "/krow/", "gro.ipyp", "sknil-dnif", "lru-xedni")]
    for name in tracked:
        content = (ROOT / name).read_bytes()
        assert not [word for word in forbidden if word.encode() in content], name
