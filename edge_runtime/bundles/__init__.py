"""The bundle: its schema, and the checks of its untrusted files."""
