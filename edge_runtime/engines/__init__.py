"""What runs a bundle's graph: ONNX Runtime, or TensorRT with the cache of its engines."""
