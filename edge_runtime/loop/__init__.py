"""From blocks of audio to events: the speech gate, segments, what is scored when, and what others may look at."""
