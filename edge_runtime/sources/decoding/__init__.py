"""From bytes to samples: one path for files, named pipes and standard input; formats are told by their content."""
