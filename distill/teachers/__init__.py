"""Teachers: models that see what the device will not have (transcripts, hand-made features)."""
