"""Accuracy of a bundle's graphs: on clips, in noise and rooms, in a stream, by speaker, and with abstention."""
