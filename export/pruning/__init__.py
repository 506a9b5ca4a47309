"""Structured pruning of a student's encoder: what to take out, and how the rest makes up for it."""
