"""The `edgeemo` command: a table of subcommands, each loaded only when it is called."""

from __future__ import annotations

import importlib
import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from edge_runtime import __version__
from edge_runtime.command_group import CommandGroup
from edge_runtime.errors import system_errors_in_words


class Entry(NamedTuple):
    """Module and attribute of a subcommand, and its line in ``edgeemo --help``."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "demo": Entry("edge_runtime.demo_command", "demo_command", "Try the whole chain on rendered speech."),
    "corpus": Entry("distill.corpus_command", "corpus_command", "Describe a corpus and report its problems."),
    "distill": Entry("distill.distill_command", "distill_command", "Train teachers, then the student."),
    "export": Entry("export.export_command", "export_command", "Turn a run into a bundle for devices."),
    "build": Entry("edge_runtime.build_command", "build_command", "Build a bundle's TensorRT engines, on the device."),
    "listen": Entry("edge_runtime.listen_command", "listen_command", "Report emotions of a microphone, file or pipe."),
    "browser": Entry("edge_runtime.browser_command", "browser_command", "Make a web page that runs a bundle."),
    "profile": Entry("edge_runtime.profile_command", "profile_command", "List, move and remove speaker profiles."),
    "teach": Entry("edge_runtime.teach_command", "teach_command", "Adapt the classifier to one speaker with clips."),
    "bench": Entry("benchmarks.bench.bench_command", "bench_command", "Report latency and accuracy of a bundle."),
    "doctor": Entry(
        "edge_runtime.doctor_command", "doctor_command", "Report what this machine can run and what is missing."
    ),
}
SYNONYMS = {
    **dict.fromkeys(("try", "example", "quickstart"), "demo"),
    **dict.fromkeys(("data", "dataset"), "corpus"),
    **dict.fromkeys(("train", "fit", "distil"), "distill"),
    **dict.fromkeys(("convert", "quantize", "quantise", "bundle"), "export"),
    **dict.fromkeys(("compile", "engine"), "build"),
    **dict.fromkeys(("run", "start", "monitor", "predict", "infer"), "listen"),
    **dict.fromkeys(("web", "page", "wasm", "javascript", "html"), "browser"),
    **dict.fromkeys(("speaker", "speakers", "user"), "profile"),
    **dict.fromkeys(("adapt", "enroll", "enrol", "personalise", "personalize"), "teach"),
    **dict.fromkeys(("benchmark", "measure", "evaluate", "test"), "bench"),
    **dict.fromkeys(("check", "diagnose", "info", "status"), "doctor"),
}


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: libraries in C end an import with errors of their own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LazyGroup(CommandGroup):
    """A group whose subcommands are imported when they are called, so that `edgeemo --help` loads none of them."""

    synonyms = SYNONYMS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the chain."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        with _interrupts_held():
            command: Any = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; the process ends even if a call of PortAudio hangs."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As for the error stream: names of files may hold bytes that are not UTF-8, and `\udce9` is valid in JSON.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except SystemExit as ended:
            if deadline := sys.modules.get("edge_runtime.sources.deadline"):
                deadline.leave(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; system errors (a full disk, a read-only directory) become one sentence."""
        with system_errors_in_words():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeemo")
def main() -> None:
    """Speech emotion recognition for edge devices: distil, export, run, measure.

    A corpus is labelled speech, a run is a training on it, a bundle is what a device loads. Help with examples:
    edgeemo COMMAND --help.

    \b
    Examples:
      edgeemo listen
      edgeemo doctor
      edgeemo demo --out demo

    Exit codes: 0 done, 1 failed, 2 wrong use or missing part, 3 refused by the accuracy gate.
    """
