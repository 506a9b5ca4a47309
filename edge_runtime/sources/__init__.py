"""Audio sources: microphone, file and pipe, as blocks of 16 kHz mono."""
