"""Results files as tables of documents."""
