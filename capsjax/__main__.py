"""`python -m capsjax`: the command line, where the program `capsjax` is not on the path."""

import sys

from capsjax.cli import run

if __name__ == "__main__":
    sys.exit(run())
