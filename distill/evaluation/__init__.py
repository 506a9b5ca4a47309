"""How well a system does on people whom it has not heard: figures, their intervals, and what was decided."""
