"""Heads of a student, on the statistics of its encoder: LDA head, branches, speaker-embedding projection."""
