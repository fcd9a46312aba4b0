"""Processes that carry out runs: what they are told, and what they tell, a line of JSON each."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capsjax.study.ledger import Trial

PATIENCE = 120.0  # seconds that a run may take to be saved, before its process is ended


class Worker:
    """Hold a process that carries out one run after another.

    Args:
        folder: the comparison's directory.
        setup: what it is told first, as `worker.main` takes it.
        environment: its environment variables.
        errors: a file for what it writes where something goes wrong.
    """

    def __init__(
        self, folder: Path, setup: Mapping[str, Any], environment: Mapping[str, str], errors: Path
    ):
        self.trial: Trial | None = None
        self._heard, self._errors = b"", errors
        with errors.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "capsjax.study.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C comes to this process alone, which asks all to save
            )
        self._send(setup)

    @property
    def output(self) -> Any:
        """The stream to listen to."""
        return self._process.stdout

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # that it has ended is noticed where it is read
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def begin(self, trial: Trial) -> None:
        """Begin a run."""
        self.trial = trial
        self._send({"arm": trial.arm.name, "seed": trial.seed})

    def listen(self) -> list[dict[str, Any]] | None:
        """Return what it tells, as far as that has come; None where it has ended."""
        text = os.read(self.output.fileno(), 1 << 16)
        *lines, self._heard = (self._heard + text).split(b"\n")
        return [json.loads(line) for line in lines] if text else None

    def why_it_ended(self) -> str:
        """Say why the process ended, in words."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", as the system does where memory runs out" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{memory}"
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its process ended with {code}" + (f": {lines[-1]}" if lines else "")

    def ask_to_end(self) -> None:
        """Ask the process to end: at once where it waits for a run, else after the run is saved."""
        self._close_input()
        if self.trial is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of what a process that was killed has not read
            self._process.stdin.close()

    def wait(self, end: float) -> None:
        """Wait until the process has ended; end it at a time of `time.monotonic`."""
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_input()
        self.output.close()


def dismiss(crew: Sequence[Worker]) -> None:
    """End workers: those that train save first."""
    for worker in crew:
        worker.ask_to_end()
    end = time.monotonic() + PATIENCE
    for worker in crew:
        worker.wait(end)
