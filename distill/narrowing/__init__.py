"""A narrower encoder: which units matter least, what makes up for those that went, and learning from the wide one."""
