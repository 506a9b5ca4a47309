"""Cached values on disk: one array of each audio file, or one row of each utterance; keys from the source code."""
