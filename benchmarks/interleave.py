"""Rounds in which every contender does its job once, each in a process of its own that waits for its turn."""

import concurrent.futures
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
    given = filter(None, [os.environ.get("PYTHONPATH")])
    path = os.pathsep.join([str(HERE), str(HERE.parent), *given])
    return env | {"CAPSJAX_BENCH_CACHE": cache, "PYTHONPATH": path}


class Worker:
    """Hold a process that does a job when it is told to."""

    def __init__(self, name: str, job: Job, env: dict[str, str]):
        command = [sys.executable, str(HERE / "worker.py"), json.dumps(job)]
        # What importing capsjax does to a process's memory is for its own contenders.
        own = {} if job["who"].startswith("our") else {"CAPSJAX_KEEP_MEMORY": "0"}
        env = env | own | job.get("env", {})
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
def workers(
    jobs: dict[str, Job], env: dict[str, str], at_once: int = 1
) -> Iterator[dict[str, Worker]]:
    """Start a process for each job, and end them all.

    Args:
        jobs: what each does, by name.
        env: the environment of the processes; `env` in a job is added to its own.
        at_once: how many are started at a time: what compiles meanwhile takes cores, and memory, from others.

    Yields:
        Those that could be started, by name.

    Raises:
        RuntimeError: If one could not, and they were started one by one.
    """
    started: dict[str, Worker] = {}

    def start(name: str) -> None:
        try:
            started[name] = Worker(name, jobs[name], env)
        except RuntimeError as error:
            if at_once == 1:
                raise
            print(f"  left out: {error}", file=sys.stderr, flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            list(pool.map(start, jobs))
        yield started
    finally:
        for worker in started.values():
            worker.end()


def compile_ours(jobs: dict[str, Job], env: dict[str, str], at_once: int = 1) -> None:
    """Let our own contenders fill the cache, so that no process that counts holds the compiler.

    Args:
        jobs: what each contender does, by name.
        env: the environment of the processes.
        at_once: how many compile at a time.
    """
    ours = {name: job for name, job in jobs.items() if job["who"].startswith("our")}
    with workers(ours, env, at_once) as started:
        for worker in started.values():
            worker.go()


def interleave(
    jobs: dict[str, Job], rounds: int, env: dict[str, str], *, seldom: tuple[str, ...] = ()
) -> dict[str, Result]:
    """Start a process for each job, and let them do it in turn.

    Args:
        jobs: what each contender does, by name; `env` in a job is added to its process's environment.
        rounds: how often.
        env: the environment of the processes.
        seldom: contenders so slow that they take part in the first two rounds only.

    Returns:
        For each, the seconds of every round, and the most memory that it had resident, and on a GPU.
    """
    with workers(jobs, env) as started:
        return take_turns(started, jobs, rounds, seldom)


def take_turns(
    started: dict[str, Worker], jobs: dict[str, Job], rounds: int, seldom: tuple[str, ...] = ()
) -> dict[str, Result]:
    """Do every job once a round, in turn, forwards and backwards by turns, after one round of warming up.

    Args:
        started: a process for each, by name.
        jobs: what each does.
        rounds: how often.
        seldom: as in `interleave`.

    Returns:
        As `interleave` does.
    """
    results = {name: {"job": job, "seconds": []} for name, job in jobs.items()}
    for number, order in alternating_rounds(jobs, rounds):
        print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
        for name in order:
            if name in seldom and number > 2:
                continue
            found = started[name].go()
            seconds = found.pop("seconds")
            results[name].update(found)
            if number > 0:
                results[name]["seconds"].append(seconds)
    return results
