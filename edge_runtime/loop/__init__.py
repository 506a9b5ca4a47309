"""From blocks of audio to events: voice activity detection, segments, what is scored when, and what others may look at."""
