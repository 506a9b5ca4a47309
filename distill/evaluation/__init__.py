"""Accuracy of a system on unseen speakers: figures, their intervals, and the decisions."""
