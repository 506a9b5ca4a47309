"""Runs on disk: one fold's directory, and several of them as a cross-validation."""
