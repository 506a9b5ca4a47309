"""Calibrate and write an INT8 graph in one call, as the tests need it."""

import onnx

from export.int8.calibrate import Calibration
from export.int8.quantise import write_int8


def quantise(source, target, precision, windows, reference, *, method="minmax", keep_float=()):
    """Return what `write_int8` returns, with the calibration method and the number of windows."""
    model = onnx.load(source)
    calibration = Calibration(model, windows, reference)
    done = write_int8(model, target, precision, calibration.ranges(method), keep_float)
    return {"calibration": method, "windows": len(calibration.windows), **done}
