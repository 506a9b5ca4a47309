"""Every command that a document shows is run here, or listed with the test that runs it or the reason why none does."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.command import run
from tests.conftest import edgeemo
from tests.document_commands import (
    DOCUMENTS,
    ROOT,
    check_words,
    commands_in_other_places,
    mentioned_commands,
    shell_commands,
)

# What the session has in place of a document's: recipes take minutes and more, IEMOCAP has a licence of its own, and a
# finished run is not trained once more under another name.
STAND_INS = {
    "demo": "tiny.toml",
    "edge": "tiny.toml",
    "emodistill-hubert-base": "tiny.toml",
    "IEMOCAP": "rendered",
    "my-corpus": "rendered",
    "iemocap-run": "run",
    "my-run": "run",
    "iemocap-bundle": "bundle",
    "my-bundle": "bundle",
    "my-report": "report",
    "/etc/edgeemo/bundles/2": "bundle",
}
# Run by another test or fixture, found by these words.
BY_ANOTHER_TEST = {
    r"edgeemo corpus \S+ --render$": ("tests/conftest.py", "corpus_dir"),  # once for the session
    r"edgeemo distill \S+ --corpus \S+ --out \S+$": ("tests/conftest.py", "run_dir"),
    r"edgeemo export \S+ --int8 --out \S+$": ("tests/conftest.py", "bundle_dir"),
    r"edgeemo listen( bundle| iemocap-bundle)?$": ("tests/edge_runtime/test_virtual_microphone.py", "mic://"),
    r"edgeemo listen (bundle )?--profile": ("tests/edge_runtime/test_speaker_listening.py", "profile"),
    r"cat a\.wav b\.wav \|": ("tests/edge_runtime/sources/test_pipes_and_addresses.py", "cat {wav} {wav} |"),
    r"edgeemo listen --source call\.raw ": ("tests/edge_runtime/sources/test_pipes_and_addresses.py", "--raw-rate"),
    r"edgeemo listen --source rtsp:": ("tests/edge_runtime/sources/test_pipes_and_addresses.py", "rtsp"),
    r"edgeemo teach \S+$": ("tests/edge_runtime/test_teach.py", "say a sentence"),
    r"edgeemo build (?!.*--target)": ("tests/edge_runtime/test_build_command.py", "simulated"),
    r"edgeemo browser --out": ("tests/edge_runtime/browser/test_command.py", '"browser", "--out"'),
    r"edgeemo bench .*--full": ("tests/benchmarks/test_bench.py", "--full"),
    r"edgeemo distill mtkd ": ("tests/distill/test_mtkd.py", '"distill"'),
    r"(python3 -m venv|\.) ~/|pip install \.$": ("tests/project/test_packaging.py", "README.md"),
    r"pip install \"\.\[": ("tests/project/test_packaging.py", "extra"),
    r"cd \"\$\(python|test -d onnxruntime|[()]$|rm -rf (onnxruntime|numpy)|find \. ": (
        "tests/project/test_packaging.py",
        "libonnxruntime",
    ),
    r"(ln -s|mv -T) ": ("tests/edge_runtime/test_fleet.py", "ln -s"),
    r"sudo mosquitto_passwd ": ("tests/edge_runtime/test_mqtt.py", "mosquitto_passwd"),
}
# No test runs it, and why.
BY_NONE = {
    r"(sudo )?apt-get (install|update)": "it changes the machine",
    r"(sudo )?systemctl ": "it changes the machine",
    r"sudo /opt/edgeemo/bin/edgeemo doctor": "credentials are there where systemd has started the service",
    r"PATH=\S+ pip install": "it is a Jetson's (JetPack's packages)",
    r"(sudo python3 -m venv|python3 -m venv --system-site-packages|\. \.venv)": "tests make their own environment",
    r"pip wheel ": "tests/project/test_packaging.py builds the wheel by `python -m build`",
    r"sudo (/opt/edgeemo/bin/pip|install) ": "it changes the machine",
    r"scp |rsync |ssh ": "it wants a second machine",
    r"python3 -m http\.server ": "it serves until it is stopped; benchmarks/lab/browser_page.py serves the same way",
    r"mosquitto_sub ": "it waits for boards; tests/edge_runtime/test_fleet.py subscribes in the same way",
}
# Names in capitals are the reader's to fill in, and what they stand for takes hours: options are checked, nothing runs.
TO_FILL_IN = re.compile(r"\b(?:PATH|DIR|RUN|WORK|FOLDS)\b|-K\b")

SHOWN = list(dict.fromkeys(shown for document in DOCUMENTS for shown in shell_commands(document)))
MENTIONED = list(dict.fromkeys(shown for document in DOCUMENTS for shown in mentioned_commands(document)))


def first(patterns, line):
    return next((value for pattern, value in patterns.items() if re.match(pattern, line)), None)


@pytest.fixture(scope="module")
def place(corpus_dir, run_dir, clip, recipe_file, tmp_path_factory):
    """A directory that holds what the documents suppose; commands leave in it what the next ones want."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(corpus_dir, folder / "rendered")
    shutil.copytree(run_dir, folder / "run")
    shutil.copy(recipe_file, folder / "tiny.toml")
    shutil.copy(clip, folder / "clip.wav")
    return folder


@pytest.fixture(scope="module")
def ran():
    """The commands that ran: what is the same in two documents runs once."""
    return set()


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_a_command_runs(shown, place, ran):
    line = shown.line
    if reason := first(BY_NONE, line):
        pytest.skip(f"not run: {reason}")
    if found := first(BY_ANOTHER_TEST, line):
        assert found[1] in (ROOT / found[0]).read_text(encoding="utf-8")
        return
    words = shlex.split(line)
    if words[0] == "make":
        run(*words, "--dry-run", cwd=ROOT, check=True)
        return
    if words[:3] == ["python", "-m", "benchmarks.lab.tables"] or TO_FILL_IN.search(line):
        check_words(line)  # the tables are compared by tests/project/test_documents.py
        return
    assert words[0].endswith("edgeemo"), "no test runs this command; name in this file what does"
    stdin = None
    if "<" in words:
        stdin = (place / words[words.index("<") + 1]).read_bytes()
        words = words[: words.index("<")]
    if words[1] == "export" and "--out" in words:
        words += ["--max-drop", "1", "--allow-chance"]  # a student of two epochs is at chance level
    words = [STAND_INS.get(word, word) for word in words[1:]]
    if shlex.join(words) in ran:
        return
    done = edgeemo(*words, cwd=place, stdin=stdin)
    assert done.returncode == 0, done.stderr
    ran.add(shlex.join(words))


@pytest.mark.parametrize("shown", MENTIONED, ids=str)
def test_a_command_in_passing_has_words_that_there_are(shown):
    words = shlex.split(shown.line)
    program = Path(words[0]).name
    if program == "make":
        run(*words, "--dry-run", cwd=ROOT, check=True)
    elif program in ("edgeemo", "torchrun") or (words[1:2] == ["-m"] and words[2].startswith("benchmarks.")):
        check_words(shown.line)
    elif words[1:2] == ["-m"] and words[2].partition(".")[0] in ("tests", "edge_runtime", "distill", "export"):
        assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()
    else:
        assert program in ("pip", "sudo", "systemctl", "pytest", "ssh", "python3"), "no test reads such a command"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_hides_from_these_tests(document):
    assert commands_in_other_places(document) == []


def test_enough_was_found():
    """A pattern that finds nothing any more would let all of this pass."""
    assert len(SHOWN) >= 50
    assert len(MENTIONED) >= 60
    for patterns in (BY_ANOTHER_TEST, BY_NONE):
        for pattern in patterns:
            assert any(re.match(pattern, shown.line) for shown in SHOWN), f"no document shows {pattern}"
