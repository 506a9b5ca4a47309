"""Light-SERNet, a published small network that students are compared with: our own implementation."""
