"""Engines: the interface, ONNX Runtime, INT8 kernels, and the known-answer test."""
