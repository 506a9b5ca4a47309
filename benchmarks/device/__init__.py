"""What is measured on the device: latency, start, memory, energy. Imports the runtime only."""
