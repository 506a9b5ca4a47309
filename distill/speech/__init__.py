"""Speech as a student hears it in training: decoded, cut, changed, and put into batches."""
