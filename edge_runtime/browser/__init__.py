"""A bundle as a web page: its graph in onnxruntime-web, and what a page needs of the runtime, in JavaScript."""
