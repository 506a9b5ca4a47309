"""TensorRT on the device: libraries and GPU, building an engine, checking it, caching it, running it."""
