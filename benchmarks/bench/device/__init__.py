"""Measurements on the device: latency, start, memory, energy. Imports only the runtime."""
