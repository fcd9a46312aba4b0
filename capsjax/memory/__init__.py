"""Memory: what there is of it, and how the C library keeps and gives it."""
