"""Build the student and train it on labels and outputs of teachers."""
