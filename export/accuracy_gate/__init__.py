"""What an export may cost: parity between graphs, accuracy on held-out speakers."""
