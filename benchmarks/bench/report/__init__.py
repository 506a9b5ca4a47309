"""Reports of `edgeemo bench`: pages, templates, plots."""
