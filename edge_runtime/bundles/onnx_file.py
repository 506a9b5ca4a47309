"""Look into an ONNX file before any library does, and refuse one that reaches for more than its own bytes.

An ONNX file may refer to weights in other files. What ONNX Runtime does then depends on its version: 1.17.3 reads
``../secret.bin`` and follows links; 1.32 refuses both, but still reads any file beside the graph that no manifest names
(`tests/edge_runtime/test_hostile_onnx.py` tries it). Our exporter writes neither such weights nor operators of other
domains, for which a library would load a plug-in. Both are refused wherever ONNX allows them: in subgraphs, functions,
sparse tensors and attributes too.

The runtime has no ``onnx`` package, hence this walk over Protocol Buffers' wire format
(https://protobuf.dev/programming-guides/encoding), with the field numbers of ``onnx.proto``. It reads headers and jumps
over weights, so it takes milliseconds. Where it meets what it does not understand, it refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

from edge_runtime.errors import EdgeemoError

MOST_FIELDS = 200_000
"""Fields that are looked at; our graphs have some thousand."""
DEEPEST = 40
"""Messages within messages; a graph without subgraphs has four."""

OLDEST_OPSET, NEWEST_OPSET = 17, 20
"""What TensorRT 10.3, the oldest that is supported, reads; LayerNormalization is one node from 17 on."""

_Kind = Literal["model", "training", "function", "graph", "node", "attribute", "sparse", "tensor"]
_INSIDE: dict[_Kind, dict[int, _Kind]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""By kind of message, the fields that are messages which may hold a tensor or a node."""
_DOMAIN, _EXTERNAL_DATA, _DATA_LOCATION = 7, 13, 14
_OPSET_IMPORT, _SET_DOMAIN, _SET_VERSION = 8, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_STANDARD = (b"", b"ai.onnx")


class _MalformedError(ValueError):
    """Not the wire format, or not what it is used for here."""


def check_onnx(stream: BinaryIO, name: str) -> None:
    """Check that a graph is whole in itself and made of standard operators.

    Raises:
        EdgeemoError: it keeps weights elsewhere, uses operators of another domain, or is no ONNX file.
    """
    try:
        _Walk(stream, name).model()
    except _MalformedError as error:
        raise EdgeemoError(f"{name}: is not an ONNX file that can be trusted ({error})") from error


def check_opset(path: Path) -> None:
    """Check that TensorRT 10.3, the oldest that is supported, reads the opset of a file.

    Raises:
        EdgeemoError: it is another opset, or the file is no ONNX file.
    """
    opset = read_opset(path)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise EdgeemoError(
            f"{path}: is written in ONNX opset {opset}, and devices read {OLDEST_OPSET} to {NEWEST_OPSET}; "
            "export the bundle again"
        )


def read_opset(path: Path) -> int:
    """Return the version of the default operator set. Only the outermost message is read, whatever the file's size.

    Raises:
        EdgeemoError: the file is no ONNX file.
    """
    try:
        with path.open("rb") as stream:
            return _Walk(stream, str(path)).opset()
    except _MalformedError as error:
        raise EdgeemoError(f"{path}: is no ONNX file ({error})") from error


class _Walk:
    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._end = stream.seek(0, 2)
        self._at = stream.seek(0)
        self._left = MOST_FIELDS

    def model(self) -> None:
        """Walk every message with a stack of our own: depth is the sender's choice."""
        graphs = 0
        stack: list[tuple[_Kind, int]] = [("model", self._end)]
        while stack:
            kind, end = stack[-1]
            if self._at == end:
                stack.pop()
                continue
            number, wire = self._tag(end)
            inside = _INSIDE[kind].get(number)
            if inside:
                stack.append((inside, self._at_end_of_bytes(wire, end)))
                graphs += inside == "graph"
                if len(stack) > DEEPEST:
                    raise _MalformedError(f"more than {DEEPEST} levels of parts within parts")
            elif kind == "node" and number == _DOMAIN:
                self._domain(wire, end)
            elif kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                self._tensor(number, wire, end)
            else:
                self._skip(wire, end)
        if not graphs:
            raise _MalformedError("it holds no graph")

    def opset(self) -> int:
        """Return the version of the first default operator set that the model imports."""
        while self._at < self._end:
            number, wire = self._tag(self._end)
            if number != _OPSET_IMPORT or wire != _BYTES:
                self._skip(wire, self._end)
                continue
            end = self._at_end_of_bytes(wire, self._end)
            domain, version = b"", 0
            while self._at < end:
                number, wire = self._tag(end)
                if (number, wire) == (_SET_DOMAIN, _BYTES):
                    stop = self._at_end_of_bytes(wire, end)
                    domain = self._take(stop - self._at)
                elif (number, wire) == (_SET_VERSION, _VARINT):
                    version = self._varint(end)
                else:
                    self._skip(wire, end)
            if domain in _STANDARD:
                return version
        raise _MalformedError("it names no opset")

    def _domain(self, wire: int, end: int) -> None:
        stop = self._at_end_of_bytes(wire, end)
        domain = self._take(min(stop - self._at, 100))
        self._jump(stop)
        if domain not in _STANDARD:
            raise EdgeemoError(
                f"{self._name}: uses operators of '{ascii(domain)[2:-1]}', and a bundle's graph has standard ones "
                "only; do not trust this bundle"
            )

    def _tensor(self, number: int, wire: int, end: int) -> None:
        # DEFAULT, 0, may be written out; a reader truncates larger numbers, so nothing else is fine.
        if number == _DATA_LOCATION and wire == _VARINT and self._varint(end) == 0:
            return
        raise EdgeemoError(
            f"{self._name}: keeps weights in another file, and a bundle's graph holds its own; do not trust this bundle"
        )

    def _tag(self, end: int) -> tuple[int, int]:
        self._left -= 1
        if self._left < 0:
            raise _MalformedError(f"more than {MOST_FIELDS} fields")
        tag = self._varint(end)
        if not 0 < tag >> 3 < 1 << 29:
            raise _MalformedError("a field without a number")
        return tag >> 3, tag & 7

    def _skip(self, wire: int, end: int) -> None:
        if wire == _VARINT:
            self._varint(end)
        elif wire in (_FIXED64, _FIXED32):
            self._jump(self._within(self._at + (8 if wire == _FIXED64 else 4), end))
        else:
            self._jump(self._at_end_of_bytes(wire, end))

    def _at_end_of_bytes(self, wire: int, end: int) -> int:
        # Groups, long out of use, are no part of ONNX.
        if wire != _BYTES:
            raise _MalformedError(f"wire type {wire} where there should be a length")
        length = self._varint(end)
        return self._within(self._at + length, end)

    def _varint(self, end: int) -> int:
        value = 0
        for shift in range(0, 70, 7):
            self._within(self._at + 1, end)
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise _MalformedError("a number of more than ten bytes")

    def _within(self, place: int, end: int) -> int:
        if place > end:
            raise _MalformedError("a part that is longer than what holds it")
        return place

    def _take(self, size: int) -> bytes:
        content = self._stream.read(size)
        if len(content) < size:
            raise _MalformedError("it ends too early")
        self._at += size
        return content

    def _jump(self, place: int) -> None:
        self._at = self._stream.seek(place)
