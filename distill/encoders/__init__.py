"""Speech encoders of every family behind one interface: waveforms in, hidden states of every block out."""
