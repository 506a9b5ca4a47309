"""Which ONNX opset a file is written in, read without onnx: the build on the device asks before it parses."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from edge_runtime.errors import EdgeemoError

OLDEST, NEWEST = 17, 20
"""What TensorRT 10.3, the oldest that is promised, reads; LayerNormalization is one node from 17 on."""
# Fields of ModelProto and OperatorSetIdProto in onnx.proto.
_OPSET_IMPORT, _DOMAIN, _VERSION = 8, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_opset(path: Path) -> None:
    """Refuse a file that TensorRT 10.3 does not read.

    Raises:
        EdgeemoError: another opset, or no ONNX file.
    """
    opset = read_opset(path)
    if not OLDEST <= opset <= NEWEST:
        raise EdgeemoError(
            f"{path}: is written in ONNX opset {opset}, and devices read {OLDEST} to {NEWEST}; export the bundle again"
        )


def read_opset(path: Path) -> int:
    """Return the version of the default domain.

    Only the outermost message is read, so a file of any size takes no memory.

    Raises:
        EdgeemoError: no ONNX file.
    """
    try:
        with path.open("rb") as stream:
            while (key := _varint(stream)) is not None:
                field, wire = key >> 3, key & 7
                if field == _OPSET_IMPORT and wire == _BYTES:
                    domain, version = _operator_set(stream)
                    if domain in (b"", b"ai.onnx"):
                        return version
                else:
                    _skip(stream, wire)
    except (EOFError, ValueError) as error:
        raise EdgeemoError(f"{path}: is no ONNX file") from error
    raise EdgeemoError(f"{path}: is no ONNX file (it names no opset)")


def _operator_set(stream: BinaryIO) -> tuple[bytes, int]:
    end = _length(stream)
    end += stream.tell()
    domain, version = b"", 0
    while stream.tell() < end:
        key = _varint(stream)
        if key == (_DOMAIN << 3 | _BYTES):
            domain = stream.read(_length(stream))
        elif key == (_VERSION << 3 | _VARINT):
            version = _varint(stream) or 0
        elif key is not None:
            _skip(stream, key & 7)
    return domain, version


def _skip(stream: BinaryIO, wire: int) -> None:
    if wire == _VARINT:
        _varint(stream)
    elif wire in (_FIXED64, _FIXED32):
        stream.seek(8 if wire == _FIXED64 else 4, 1)
    elif wire == _BYTES:
        stream.seek(_length(stream), 1)
    else:
        raise ValueError(f"wire type {wire}")


def _length(stream: BinaryIO) -> int:
    length = _varint(stream)
    if length is None:
        raise EOFError
    return length


def _varint(stream: BinaryIO) -> int | None:
    """Read a base-128 number, least significant group first; None at the end of the file."""
    value, shift = 0, 0
    while byte := stream.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    if shift:
        raise EOFError
    return None
