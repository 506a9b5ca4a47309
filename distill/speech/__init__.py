"""Training speech: decoded, cut into windows, augmented, and put into batches."""
