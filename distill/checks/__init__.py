"""What is wrong with a corpus, found before hours are spent on it. Imports no torch."""
