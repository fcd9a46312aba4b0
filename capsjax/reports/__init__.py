"""Reports, from what directories of runs hold."""
