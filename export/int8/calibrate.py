"""Ranges of activations for INT8, by one of several methods, from one measurement on training windows.

* ``minmax``: the smallest and largest value. Nothing is clipped; one outlier makes every step coarse.
* ``percentile``: 99.99 % of the absolute values are within it.

Entropy (Migacz 2017, the method of TensorRT's calibrator) was tried and lost: it clips the few huge activations of
Whisper's residual stream, and the logits were off by 60 % of their deviation, against 11 % by minmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edge_runtime.engines.chunks import CHUNK_KEY, NEXT, PAST, pieces
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import Pcm
from export.graphs.policy import QUANTISED_OPERATORS
from export.options import Method

Ranges = dict[str, tuple[np.float32, np.float32]]
_BINS = 2048
_PERCENTILE = 0.9999


class Calibration:
    """Activations of a float graph on calibration windows ``[samples]`` of training speakers.

    Raises:
        EdgeemoError: there are no windows, or one holds NaN.
    """

    def __init__(self, model: onnx.ModelProto, windows: Iterable[Pcm], reference: npt.NDArray[np.float32]) -> None:
        self.windows = _checked(windows)
        self._reference = reference
        self._names = _activations(model)
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        there = {value.name for value in [*exposed.graph.output, *exposed.graph.input]}
        exposed.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self._names
            if name not in there
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._chunk = int(self._session.get_modelmeta().custom_metadata_map.get(CHUNK_KEY, "0"))
        self.minmax: Ranges = self._minmax()

    def ranges(self, method: Method) -> Ranges:
        """Return the range of every activation that a quantised node reads or writes."""
        if method == "minmax":
            return self.minmax
        limits = {name: _percentile(counts, edge) for name, (counts, edge) in self._histograms.items()}
        return {
            name: (max(low, np.float32(-limits[name])), min(high, np.float32(limits[name])))
            for name, (low, high) in self.minmax.items()
        }

    def _values(self, pcm: Pcm) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """Yield the activations of a window; of each of its chunks, for a graph in chunks."""
        feeds = {"pcm": pcm[np.newaxis], "reference": self._reference}
        wanted = [name for name in self._names if name not in (*feeds, PAST)]
        if not self._chunk:
            yield dict(zip(wanted, self._session.run(wanted, feeds), strict=True))
            return
        past = np.zeros((1, self._session.get_inputs()[-1].shape[1]), np.float32)
        for _, piece in pieces(pcm, self._chunk):
            feeds |= {"pcm": piece[np.newaxis], PAST: past}
            *values, past = self._session.run([*wanted, NEXT], feeds)
            yield dict(zip(wanted, values, strict=True))

    def _all_values(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        for pcm in self.windows:
            for values in self._values(pcm):
                yield from values.items()

    def _minmax(self) -> Ranges:
        found: Ranges = {}
        for name, values in self._all_values():
            low, high = found.get(name, (np.float32(0), np.float32(0)))
            found[name] = (min(low, values.min()), max(high, values.max()))
        return found

    @cached_property
    def _histograms(self) -> dict[str, tuple[npt.NDArray[np.int64], float]]:
        """Counts ``[2048]`` of absolute values from 0 up, and where the last bin ends."""
        edges = {name: max(float(-low), float(high), 1e-12) for name, (low, high) in self.minmax.items()}
        counts = {name: np.zeros(_BINS, np.int64) for name in edges}
        for name, values in self._all_values():
            counts[name] += np.histogram(np.abs(values), _BINS, (0.0, edges[name]))[0]
        return {name: (counts[name], edge) for name, edge in edges.items()}


def _checked(windows: Iterable[Pcm]) -> Sequence[Pcm]:
    kept = list(windows)
    if not kept:
        raise EdgeemoError("there are no windows to calibrate INT8 with; the training part of the run is empty")
    for number, window in enumerate(kept):
        if not np.isfinite(window).all():
            raise EdgeemoError(f"calibration window {number} holds samples that are not numbers (NaN or infinity)")
    return kept


def _activations(model: onnx.ModelProto) -> list[str]:
    constants = {item.name for item in model.graph.initializer}
    names = [
        name
        for node in model.graph.node
        if node.op_type in QUANTISED_OPERATORS
        for name in (*node.input, *node.output)
        if name and name not in constants
    ]
    return list(dict.fromkeys(names))


def _percentile(counts: npt.NDArray[np.int64], edge: float) -> float:
    share = np.cumsum(counts) / max(counts.sum(), 1)
    return float(edge * (np.searchsorted(share, _PERCENTILE) + 1) / len(counts))
