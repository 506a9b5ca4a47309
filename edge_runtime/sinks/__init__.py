"""Where events go: each kind of sink has a module, `group.py` feeds several of them at once."""
