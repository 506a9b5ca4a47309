"""Speakers of a stream: what is known of them, changes of speaker, and profiles on disk."""
