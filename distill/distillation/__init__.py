"""Build the student, and train it with labels and teachers."""
