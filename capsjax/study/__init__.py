"""Comparisons: arms, what is measured of them, statistics."""
