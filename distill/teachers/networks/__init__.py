"""The built-in teachers' networks and data sets; they import torch, which reading a recipe does not need."""
