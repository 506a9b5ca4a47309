"""From labelled speech to a small student: corpora, folds, teachers, losses, training."""
