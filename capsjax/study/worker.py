"""A process that carries out runs of a comparison, as `pool` tells it: `python -m capsjax.study.worker DIR`.

It is told one line of JSON first, then one for each run, on standard input; it tells its progress on what was
standard output. Where that input ends, so does it: the process that asked is gone.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from capsjax import signals
from capsjax.progress import Reporter


class Wire(Reporter):
    """Tell another process, a line of JSON each.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def tell(self, **message: Any) -> None:
        """Tell something; where nobody listens any more, this process is asked to save and to end."""
        try:
            print(json.dumps(message), file=self._stream, flush=True)
        except OSError:
            os.kill(os.getpid(), signal.SIGTERM)

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Begin a task.

        Args:
            label: what the task is.
            total: its number of units; None if that is not known.
            done: how many of them are done already.
        """
        self.tell(event="start", label=label, total=total, done=done)

    def update(self, done: int, note: str = "") -> None:
        """Say how far the task is.

        Args:
            done: the number of units done since the task began.
            note: a few words or numbers about them.
        """
        self.tell(event="update", done=done, note=note)

    def say(self, line: str) -> None:
        """Tell something that stays."""
        self.tell(event="say", line=line)

    def close(self) -> None:
        """Do nothing: every line is told already."""


def main(folder: Path) -> int:
    """Carry out the runs that standard input names.

    Args:
        folder: the comparison's directory.

    Returns:
        0 where there is no more to do, or a run was saved before the end.
    """
    wire = Wire(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what else is printed is no message
    setup = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setup["cores"])  # before JAX makes threads, which have the same
    sys.path[:] = setup["path"]
    signals.install()
    signals.first_to_speak()  # the process that asked speaks for all
    import jax

    for name, value in setup["jax"].items():
        jax.config.update(name, value)
    for module in setup["modules"]:
        with contextlib.suppress(
            ImportError
        ):  # whoever needs a class of it says that it is not known
            importlib.import_module(module)
    from capsjax.runs import directory
    from capsjax.study.design import design
    from capsjax.study.ledger import trials_of
    from capsjax.study.pool import read_data
    from capsjax.study.trial_runner import TrialRunner

    config = directory.read_config(folder)
    designed = design(config)
    data = None if setup["data"] is None else read_data(setup["data"])
    runner = TrialRunner(config, designed, data)
    trials = {(t.arm.name, t.seed): t for t in trials_of(folder, config, designed)}
    asked: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    while (wanted := asked.get()) is not None:
        try:
            with signals.held():
                runner.run(trials[wanted["arm"], wanted["seed"]], wire)
        except OSError as error:
            name = None if error.filename is None else str(error.filename)
            wire.tell(event="disk", number=error.errno, text=error.strerror, name=name)
            return 1
        except KeyboardInterrupt:
            return 0
        wire.tell(event="end")
    return 0


def _listen(asked: "SimpleQueue[dict[str, Any] | None]") -> None:
    """Pass on what standard input says; at its end the run under way is saved, and the process ends."""
    for line in sys.stdin:
        asked.put(json.loads(line))
    asked.put(None)
    with contextlib.suppress(OSError):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
