"""All model reduction: importance of units, least squares for what reads the rest, training to match the original."""
