"""Analysis: comparing gradients, statistics over seeds, and reports of runs."""
