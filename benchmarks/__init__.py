"""Measure bundles, runs and other systems, and write reports."""
