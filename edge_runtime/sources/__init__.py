"""Where audio comes from: microphone, file, pipe; all of it as blocks of 16 kHz mono."""
