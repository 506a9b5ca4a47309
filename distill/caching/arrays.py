"""Arrays on disk: one of any shape, or one with a row an utterance, written batch by batch and read row by row."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import Floats
from edge_runtime.files import replacing

_BLOCK = 4096


def write_array(path: Path, array: Floats | npt.NDArray[np.integer]) -> None:
    """Write one ``.npy`` file as a whole or not at all.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    # With a file, np.save writes in C and misses the error if the last piece does not fit on a full disk.
    content = io.BytesIO()
    np.save(content, array)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def write_rows(places: Mapping[str, Path], batches: Iterable[Mapping[str, Floats]], count: int) -> None:
    """Write one ``.npy`` file of ``count`` float32 rows for each name, all of them or none.

    Args:
        places: file of each name.
        batches: arrays ``[B, ...]`` by name; names without a place are passed over.
        count: rows of all batches together.
    """
    with ExitStack() as stack:
        # The files take their places when the stack unwinds; streams are closed first.
        paths = {name: stack.enter_context(replacing(path)) for name, path in places.items()}
        streams: dict[str, BinaryIO] = {
            name: stack.enter_context(path.open("wb", buffering=1 << 16)) for name, path in paths.items()
        }
        for number, batch in enumerate(batches):
            for name, stream in streams.items():
                block = np.ascontiguousarray(batch[name], dtype="<f4")
                if number == 0:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *block.shape[1:])}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(block.tobytes())


class RowSource(Protocol):
    """Anything with a row an utterance, in the order of the utterances that it goes with."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Floats: ...


class Rows:
    """Rows of a ``.npy`` file, each read when it is indexed; none stays in memory.

    Args:
        path: the file.
        offset: taken off every row.
    """

    def __init__(self, path: Path, offset: Floats | None = None) -> None:
        self._path = path
        self._offset = offset
        mapped = np.load(path, mmap_mode="r")
        self.shape: tuple[int, ...] = mapped.shape
        self._kind = mapped.dtype
        self._start: int = mapped.offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Floats:
        # Read, not mapped: pages of a mapping that stays would count as memory of this process, and mapping a file anew
        # for each row takes ten times as long as reading it.
        count = math.prod(self.shape[1:])
        place = self._start + index * count * self._kind.itemsize
        row = np.fromfile(self._path, self._kind, count, offset=place).reshape(self.shape[1:])
        return row if self._offset is None else row - self._offset

    def block(self, start: int, end: int | None = None) -> Floats:
        """Return the rows from ``start`` to before ``end`` in memory, ``[end - start, ...]``."""
        return np.array(np.load(self._path, mmap_mode="r")[start:end])

    def centred(self, count: int) -> Rows:
        """Return the rows with the mean of the first ``count`` taken off."""
        total = np.zeros(self.shape[1:])
        for start in range(0, count, _BLOCK):
            block = np.load(self._path, mmap_mode="r")[start : min(count, start + _BLOCK)]
            total += block.sum(axis=0, dtype=np.float64)
        return Rows(self._path, (total / count).astype(np.float32))


class ChosenRows:
    """Some rows of a file: row ``i`` is that of number ``numbers[i]``."""

    def __init__(self, rows: Rows, numbers: Sequence[int]) -> None:
        self._rows = rows
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Floats:
        return self._rows[self._numbers[index]]


class StackedRows:
    """Some rows of several files of equal shape, side by side: row ``i`` is ``[len(files), ...]``."""

    def __init__(self, files: Sequence[Rows], numbers: Sequence[int]) -> None:
        self._files = files
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Floats:
        return np.stack([file[self._numbers[index]] for file in self._files])
