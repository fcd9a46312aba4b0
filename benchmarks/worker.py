"""A process with one job: it does it whenever a line comes in, and answers how long that took.

A job may say `times`, how often its call does it: the seconds are of one time. One that says `warm` does it
once before it is ready, so that what is compiled at the first call is compiled then.
"""

import json
import sys
import time
from typing import Any

from contenders import make

from capsjax.bench.measurement import peak_rss


def peak_device_bytes() -> int | None:
    """Return the most memory of a GPU that this process has had in use, or None without one."""
    if (torch := _loaded("torch")) and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if jax := _loaded("jax"):
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None


def _loaded(name: str) -> Any:
    return sys.modules.get(name)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    call = make(job)
    if job.get("warm"):
        call()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        seconds = (time.perf_counter() - start) / job.get("times", 1)
        answer = {"seconds": seconds, "peak_rss_bytes": peak_rss()}
        print(json.dumps(answer | {"peak_device_bytes": peak_device_bytes()}), flush=True)
