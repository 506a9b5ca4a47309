"""Two runs or two results files: which one is better, and can these samples show it?"""
