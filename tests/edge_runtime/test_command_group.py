"""Unknown commands, options that would be ignored, and where data goes."""

import importlib
import os
import pty
import subprocess
import sys

import click
import pytest

from edge_runtime.cli import COMMANDS, SYNONYMS
from edge_runtime.profile_command import profile_command
from tests.command import invoke, python


def single_valued():
    for name, entry in COMMANDS.items():
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        commands = {(name,): command}
        if isinstance(command, click.Group):
            commands |= {(name, each): found for each, found in command.commands.items()}
        for words, found in commands.items():
            for option in found.params:
                if isinstance(option, click.Option) and not (option.multiple or option.is_flag or option.count):
                    yield pytest.param(words, option, id=" ".join((*words, option.opts[0])))


@pytest.mark.parametrize(("words", "option"), list(single_valued()))
def test_every_option_with_one_value_is_refused_if_repeated(words, option):
    name, values = option.opts[0], ["x"] * option.nargs
    done = invoke(*words, name, *values, name, *values, code=2)
    assert done.stderr == f"Error: {name}: is given 2 times and takes one value; give it once\n"


def test_of_several_spellings_and_beside_others():
    done = invoke("listen", "--config=a.toml", "--json", "--config", "b.toml", "--sink", "stdout", code=2)
    assert "--config: is given 2 times" in done.stderr


def test_flags_and_options_with_several_values_may_be_repeated():
    assert invoke("listen", "--example-config", "--json", "--json", "--sink", "stdout", "--sink", "web").returncode == 0
    # A value that looks like the option.
    assert invoke("listen", "--example-config", "--source", "--source").returncode == 0


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        *((f"profile {name}", "rm") for name in ("remove", "delete", "Remove", "rmm")),
        ("profile ls", "list"),
        ("profile info", "show"),
        ("profile backup", "export"),
        ("train", "distill"),
        ("lisen", "listen"),
        ("run", "listen"),
        ("check", "doctor"),
        ("benchmark", "bench"),
    ],
)
def test_an_unknown_command_names_the_right_one(words, meant):
    done = invoke(*words.split(), "anna", code=2)
    assert f"did you mean '{meant}'?" in done.stderr


def test_synonyms_are_no_commands_and_lead_to_one():
    for group, known in ((SYNONYMS, COMMANDS), (profile_command.synonyms, profile_command.commands)):
        assert not set(group) & set(known)
        assert set(group.values()) <= set(known)


@pytest.mark.parametrize(
    ("words", "known"), [("xyzzy", "demo, corpus, distill"), ("profile xyzzy", "list, merge, reset")]
)
def test_one_that_is_like_none_names_all(words, known):
    done = invoke(*words.split(), code=2)
    assert known in done.stderr


@pytest.mark.parametrize(
    ("words", "group"), [("--source a listen", "edgeemo"), ("profile --json list", "edgeemo profile")]
)
def test_an_option_before_its_command(words, group):
    option = next(word for word in words.split() if word.startswith("--"))
    done = invoke(*words.split(), code=2)
    assert done.stderr.endswith(
        f"Error: No such option '{option}'; options stand after their command: {group} COMMAND {option}\n"
    )


def test_ctrl_c_waits_until_a_command_is_imported(tmp_path):
    """Libraries in C raise an error of their own, with a traceback, where it comes within their import."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, sys, click\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.stderr.write('whole')\n"
        "command = click.Command('slow')\n"
    )
    code = (
        f"import signal, sys; sys.path.insert(0, {str(tmp_path)!r}); from edge_runtime import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.COMMANDS['slow'] = cli.Entry('slow', 'command', ''); cli.main(['slow'])\n"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr.split()) == (1, ["whole", "Aborted!"])


@pytest.mark.parametrize("words", [["doctor"], ["profile", "list"]], ids=" ".join)
def test_a_table_in_a_file_has_neither_colours_nor_progress(words, tmp_path, monkeypatch):
    """The error stream is a terminal, as at a shell."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    profiles = tmp_path / "edgeemo" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "anna.json").write_text("damaged")
    ours, theirs = pty.openpty()
    try:
        with (tmp_path / "table").open("wb") as file:
            command = [sys.executable, "-m", "edge_runtime", *words]
            done = subprocess.run(command, stdout=file, stderr=theirs, stdin=theirs, timeout=120, check=False)
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0
    text = (tmp_path / "table").read_text("utf-8")
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.startswith("┏")
    assert len(text.splitlines()) > 3
