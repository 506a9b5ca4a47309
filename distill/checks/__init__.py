"""Checks of a corpus before training. Imports no torch."""
