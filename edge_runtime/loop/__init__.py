"""From blocks of audio to events: voice activity detection, segments, scoring, and the state for other threads."""
