"""Measure bundles, runs and peers, and write reports that a sceptic can check."""
