"""Measurements: time, memory, operations and accuracy of steps and routings, and where a step spends them."""
