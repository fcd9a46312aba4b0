"""A process with one job: it does it once whenever a line comes in, and answers how long that took."""

import json
import sys
import time

from contenders import make

from capsjax.analysis.bench import peak_rss

if __name__ == "__main__":
    call = make(json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak_rss()}), flush=True)
