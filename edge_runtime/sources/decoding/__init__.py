"""From bytes to samples: one path for files, named pipes and standard input; content decides on the format."""
