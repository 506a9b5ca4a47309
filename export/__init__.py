"""From a student checkpoint to a bundle: ONNX, INT8, parity, TensorRT."""
