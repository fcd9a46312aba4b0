"""Rounds in which every contender does its job once, each in a process of its own that waits for its turn."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capsjax.bench.timing import alternating_rounds

Job = dict[str, Any]
Result = dict[str, Any]
HERE = Path(__file__).parent


def environment(cache: str) -> dict[str, str]:
    """Return the environment of workers: this one, compiled programs in `cache`, no other allocator."""
    env = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    path = f"{HERE}{os.pathsep}{HERE.parent}"
    return env | {"CAPSJAX_BENCH_CACHE": cache, "PYTHONPATH": path}


class Worker:
    """Hold a process that does a job when it is told to."""

    def __init__(self, name: str, job: Job, env: dict[str, str]):
        command = [sys.executable, str(HERE / "worker.py"), json.dumps(job)]
        env = env | job.get("env", {})
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, bufsize=1
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for a line of its answer."""
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.end()
            raise RuntimeError(f"{self.name}: the worker ended with {code}")
        return json.loads(line)

    def go(self) -> dict[str, Any]:
        """Do the job once."""
        self.process.stdin.write("go\n")
        return self.answer()

    def end(self) -> None:
        """End the process, and close what leads to it."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def workers(jobs: dict[str, Job], env: dict[str, str]) -> Iterator[list[Worker]]:
    """Start a process for each job, one after another; end them all."""
    started = []
    try:
        for name, job in jobs.items():
            started.append(Worker(name, job, env))
        yield started
    finally:
        for worker in started:
            worker.end()


def compile_ours(jobs: dict[str, Job], env: dict[str, str]) -> None:
    """Let our own contenders fill the cache, so that no process that counts holds the compiler."""
    interleave({name: job for name, job in jobs.items() if job["who"] == "ours"}, 1, env)


def interleave(
    jobs: dict[str, Job], rounds: int, env: dict[str, str], *, seldom: tuple[str, ...] = ()
) -> dict[str, Result]:
    """Do every job once a round, in turn, forwards and backwards by turns, after one round of warming up.

    Args:
        jobs: what each contender does, by name; `env` in a job is added to its process's environment.
        rounds: how often.
        env: the environment of the processes.
        seldom: contenders so slow that they take part in the first two rounds only.

    Returns:
        For each, the seconds of every round, and the most memory that it had resident, and on a GPU.
    """
    results = {name: {"job": job, "seconds": []} for name, job in jobs.items()}
    with workers(jobs, env) as started:
        by_name = {worker.name: worker for worker in started}
        for number, order in alternating_rounds(jobs, rounds):
            print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
            for name in order:
                if name in seldom and number > 2:
                    continue
                found = by_name[name].go()
                seconds = found.pop("seconds")
                results[name].update(found)
                if number > 0:
                    results[name]["seconds"].append(seconds)
    return results
