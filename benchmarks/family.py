"""Time convolutional capsules and EM routing beside PyTorch, and count the memory of window votes.

    python benchmarks/family.py [--quick]

Writes benchmarks/results/family.json, the seconds of every round, and prints the table.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from family_work import compile_windows, votes_bytes
from interleave import Job, compile_ours, environment, interleave
from rich.console import Console

from capsjax.runs import description
from capsjax.tables import Table

HERE = Path(__file__).parent
PATH = HERE / "results" / "family.json"

# Children on a grid [b, h, w, a, p, d] and matrices [k, k, a, j, d, e], as published networks have them.
WINDOWS = {
    "EM 2018, first": {"u": [8, 14, 14, 32, 4, 4], "W": [3, 3, 32, 32, 4, 4], "stride": 2},
    "EM 2018, second": {"u": [8, 6, 6, 32, 4, 4], "W": [3, 3, 32, 32, 4, 4], "stride": 1},
    "EM 2018 small, first": {"u": [32, 14, 14, 8, 4, 4], "W": [3, 3, 8, 16, 4, 4], "stride": 2},
    "small MNIST": {"u": [32, 6, 6, 8, 1, 8], "W": [3, 3, 8, 16, 8, 16], "stride": 1},
    "DeepCaps cell": {"u": [8, 8, 8, 32, 1, 8], "W": [3, 3, 32, 32, 8, 8], "stride": 2},
    "SR-CapsNet": {"u": [16, 8, 8, 32, 1, 16], "W": [3, 3, 32, 32, 16, 16], "stride": 2},
}
EM = {"batch": 32, "children": 1152, "parents": 10, "in_dim": 8, "out_dim": 16}


def groups() -> dict[str, dict[str, Job]]:
    """Return what is interleaved with what."""
    found: dict[str, dict[str, Job]] = {}
    for name, sizes in WINDOWS.items():
        for ours, theirs in (("stop", "detached"), ("closed_form", "full")):
            other = {"who": "pytorch windows", "sizes": sizes, "gradient": theirs}
            one = {"who": "our windows", "sizes": sizes, "gradient": ours}
            found[f"{name}, {'stop' if ours == 'stop' else 'full'}"] = {
                "ours": {**one, "share": "child"},
                "ours, share position": {**one, "share": "position"},
                "public": {**other, "formulation": "public"},
                "careful": {**other, "formulation": "careful"},
            }
    em = {"who": "ours", "work": "routing", "routing": "em", "sizes": EM}
    found["EM routing"] = {
        "ours, full": {**em, "gradient": "full"},
        "ours, stop": {**em, "gradient": "stop"},
        "pytorch": {"who": "pytorch em", "sizes": EM},
    }
    return found


def memory() -> dict[str, dict[str, int]]:
    """Return the temporary bytes of each convolution, votes formed and not, and those of the votes alone."""
    found: dict[str, dict[str, int]] = {}
    for name, sizes in WINDOWS.items():
        found[name] = {"votes": votes_bytes(sizes)}
        for gradient in ("stop", "closed_form"):
            for formed in (False, True):
                job = {"sizes": sizes, "gradient": gradient, "share": "position", "formed": formed}
                analysis = compile_windows(job)[0].memory_analysis()
                kind = f"{gradient}, {'formed' if formed else 'never formed'}"
                found[name][kind] = analysis.temp_size_in_bytes
    return found


def ratio(found: dict[str, Any], ours: str, other: str) -> str:
    """Write the ratio of medians, and the least and largest of one round."""
    one, two = (np.asarray(found[name]["seconds"]) for name in (ours, other))
    each = one / two
    return f"{np.median(one) / np.median(two):.3f} ({each.min():.3f} to {each.max():.3f})"


def tables(measured: dict[str, Any]) -> list[Table]:
    """Return the tables of times and of memory."""
    rows = []
    for name, found in measured["groups"].items():
        if "public" in found:
            others = [ratio(found, "ours", other) for other in ("public", "careful")]
            rows.append((name, *others, ratio(found, "ours, share position", "public")))
        else:
            rows.append((f"{name}, full", ratio(found, "ours, full", "pytorch"), "", ""))
    heads = (
        "value and gradient",
        "to public PyTorch",
        "to careful PyTorch",
        "share position, to public",
    )
    shares = []
    for name, found in measured["memory"].items():
        parts = [
            f"{found[f'{g}, never formed'] / 1e6:.0f} / {found[f'{g}, formed'] / 1e6:.0f} = "
            f"{found[f'{g}, never formed'] / found[f'{g}, formed']:.2f}"
            for g in ("stop", "closed_form")
        ]
        shares.append((name, f"{found['votes'] / 1e6:.0f}", *parts))
    memory_heads = (
        "temporary MB, never formed / formed",
        "votes alone",
        "stop",
        "full, closed form",
    )
    return [Table("Time", heads, tuple(rows)), Table("Memory", memory_heads, tuple(shares))]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Time convolutional capsules and EM routing.")
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--show", action="store_true", help="print the table of what is there")
    told = parser.parse_args()
    if not told.show:
        measured: dict[str, Any] = {"environment": description.environment(), "groups": {}}
        with tempfile.TemporaryDirectory() as cache:
            env = environment(cache)
            for name, jobs in groups().items():
                print(name, file=sys.stderr, flush=True)
                compile_ours(jobs, env)
                measured["groups"][name] = interleave(jobs, 1 if told.quick else 5, env)
        measured["memory"] = memory()
        PATH.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for table in tables(json.loads(PATH.read_text(encoding="utf-8"))):
        Console(width=140).print(table.to_rich())


if __name__ == "__main__":
    main()
