"""One training loop for every teacher and student, on one process or several."""
