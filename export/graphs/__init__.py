"""ONNX graphs of a student: float, FP16, the form for CPUs, and which nodes INT8 quantises."""
