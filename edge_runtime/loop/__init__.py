"""From blocks of audio to events: voice activity detection, segments, the loop, and its state for other threads."""
