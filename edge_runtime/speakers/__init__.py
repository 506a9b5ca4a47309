"""Speaker normalisation: speaker means, changes of speaker, and profiles on disk."""
