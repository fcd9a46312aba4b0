"""The program `capsjax`, and `python -m capsjax` where that is not on the path."""

import sys

from capsjax import signals, streams


def start() -> int:
    """Run the command line, with signals watched before anything that takes time is imported."""
    streams.secure()
    signals.install()
    from capsjax import cli  # takes time, in which Ctrl-C is to end quietly

    return cli.start()


if __name__ == "__main__":
    sys.exit(start())
