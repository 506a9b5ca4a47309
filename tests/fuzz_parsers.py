"""`make fuzz`: coverage-guided fuzzing (atheris, libFuzzer) of the parsers of our own that meet strangers' bytes.

Not a part of `make test`: it never ends by itself, and atheris has no wheels for every platform. Arguments are
libFuzzer's, as ``-max_total_time=60`` or a directory to keep what it found.
"""

import io
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["edge_runtime", "wave"]):
    from edge_runtime.bundles.onnx_file import check_onnx
    from edge_runtime.sources.pipe import PipeSource
    from edge_runtime.strict_json import parse_json
from edge_runtime.errors import EdgeemoError

PARSERS = (
    lambda data: check_onnx(io.BytesIO(data), "graph"),
    lambda data: parse_json(data, "manifest"),
    lambda data: list(PipeSource(io.BytesIO(data)).blocks()),
)


def one(data: bytes) -> None:
    """Give the same bytes to every parser; only an `EdgeemoError` of one line may come of it."""
    for parse in PARSERS:
        message = _refusal(parse, data)
        assert message.isprintable(), message


def _refusal(parse: Callable[[bytes], object], data: bytes) -> str:
    try:
        parse(data)
    except EdgeemoError as error:
        return error.message
    return ""


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
