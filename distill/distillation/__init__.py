"""Build the student, and teach it what labels and teachers know."""
