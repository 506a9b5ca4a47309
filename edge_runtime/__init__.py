"""The on-device part of edgeemo: audio in, emotion events out, and the bundle contract.

It imports neither torch nor transformers nor onnx, so it fits a small device.
"""

__version__ = "0.1.0"
