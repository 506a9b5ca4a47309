"""The bundle, as a stranger may have made it: its schema, its files, and what has to hold before it is trusted."""
