"""The checks of `edgeemo doctor`, a module for each theme; `examine.py` lists them."""
