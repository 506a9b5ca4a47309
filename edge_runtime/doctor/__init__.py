"""What `edgeemo doctor` looks at, a module for each kind of thing; `examine.py` has the list."""
