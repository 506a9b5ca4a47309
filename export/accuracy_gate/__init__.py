"""Checks of an export: parity between graphs, accuracy on held-out speakers."""
