"""Messages and progress on the error stream; standard output carries data only."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# Of the processes that torchrun or accelerate starts for one training, only the first one prints.
_FIRST = os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


_WIDTH_IN_FILES = 160
_NARROW = 60
GONE = (errno.EIO, errno.ENXIO)
"""Errors of a terminal that was closed."""


class _QuietConsole(Console):
    """A console that prints no more once its reader has left or its terminal is closed; rich would exit instead."""

    def on_broken_pipe(self) -> None:
        """Stop printing."""
        self.quiet = True

    def _check_buffer(self) -> None:
        # Called wherever rich writes, also by the thread of the live line.
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.on_broken_pipe()


# No markup: paths and corpus texts may hold square brackets.
console = _QuietConsole(stderr=True, highlight=False, soft_wrap=True, markup=False, quiet=not _FIRST)


def print_table(table: Table, narrow: RenderableType | None = None) -> None:
    """Print a table to standard output, since it is data; in a file it is wide, so that long paths are not folded.

    Args:
        table: the table.
        narrow: what a terminal too narrow for columns gets in its place.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_IN_FILES
    data = Console(file=sys.stdout, highlight=False, markup=False, width=width)
    data.print(narrow if narrow is not None and data.width < _NARROW else table)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Show one progress bar on a terminal, and nothing where the error stream is a file or a pipe."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(title, total=total)
        yield progress


def advance(progress: Progress, steps: int = 1) -> None:
    """Advance the task of `progress_bar`."""
    progress.advance(progress.task_ids[0], steps)
