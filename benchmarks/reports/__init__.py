"""A bench as a report: its sections, plots and pages."""
