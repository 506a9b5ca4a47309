"""A bundle as models of Triton Inference Server."""
