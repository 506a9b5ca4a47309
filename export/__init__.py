"""From a student checkpoint to a bundle: ONNX, INT8, parity, TensorRT."""

import edge_runtime  # noqa: F401  (before ONNX Runtime is loaded: it switches its telemetry off)
