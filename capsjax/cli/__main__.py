"""`python -m capsjax.cli`, the same as `python -m capsjax`."""

import sys

from capsjax import cli

if __name__ == "__main__":
    sys.exit(cli.start())
