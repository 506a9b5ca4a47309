"""The bundle directory: manifest, known answers, report, model card."""
