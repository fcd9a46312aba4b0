"""Time convolutional capsules and EM routing beside PyTorch, and count the memory of window votes.

    python benchmarks/family.py [NAME ...] [--rounds N] [--results FILE]

Writes benchmarks/results/family.json, or another file, the seconds of every round, and prints the tables of
docs/speed.md; `--show` prints those of what is there.
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
FORMS: dict[str, Job] = {
    "never formed": {"share": "position", "formed": False},
    "formed": {"share": "position", "formed": True},
    "never formed, share child": {"share": "child", "formed": False},
}
EM = {"batch": 32, "children": 1152, "parents": 10, "in_dim": 8, "out_dim": 16}
# The small network of 2018 on images of 32 by 32 with one channel, and eight classes.
NETWORK = {"data": "eth80", "augment": []}


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
    step = {"who": "ours", "work": "step", "config": "em2018_small", "batch": 64}
    found["EM 2018 small, step"] = {
        "ours, full": {**step, "changed": NETWORK},
        "ours, stop": {**step, "changed": {**NETWORK, "model.routing.gradient": "stop"}},
        "pytorch": {"who": "pytorch em step", "batch": 64, "classes": 8},
    }
    return found


def memory() -> dict[str, dict[str, int]]:
    """Return the temporary bytes of each convolution, votes formed and not, and those of the votes alone.

    Formed votes share couplings at each position; so do those beside them, and one more over all parents.
    """
    found: dict[str, dict[str, int]] = {}
    for name, sizes in WINDOWS.items():
        found[name] = {"votes": votes_bytes(sizes)}
        for gradient in ("stop", "closed_form"):
            for form, how in FORMS.items():
                program = compile_windows({"sizes": sizes, "gradient": gradient, **how})[0]
                found[name][f"{gradient}, {form}"] = program.memory_analysis().temp_size_in_bytes
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
            for mode in ("full", "stop"):
                rows.append((f"{name}, {mode}", ratio(found, f"ours, {mode}", "pytorch"), "", ""))
    heads = (
        "ours, ratio of medians (least to largest of a round)",
        "to public PyTorch",
        "to careful PyTorch",
        "share position, to public",
    )
    shares = []
    for name, found in measured.get("memory", {}).items():
        parts = [
            f"{found[f'{g}, never formed'] / 1e6:.0f} / {found[f'{g}, formed'] / 1e6:.0f} = "
            f"{found[f'{g}, never formed'] / found[f'{g}, formed']:.2f}"
            for g in ("stop", "closed_form")
        ]
        child = [f"{g}, never formed, share child" for g in ("stop", "closed_form")]
        parts.append(" and ".join(f"{found[kind] / 1e6:.0f}" for kind in child))
        shares.append((name, f"{found['votes'] / 1e6:.0f}", *parts))
    memory_heads = (
        "MB, never formed / formed",
        "votes alone",
        "stop",
        "full, closed form",
        "share child, never formed: stop and full",
    )
    return [
        Table("Time of value and gradient", heads, tuple(rows)),
        Table("Temporary memory", memory_heads, tuple(shares)),
    ]


def main() -> None:
    """Measure, write down each group as it comes, print."""
    parser = argparse.ArgumentParser(description="Time convolutional capsules and EM routing.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="groups to measure (default all, and memory)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--results", type=Path, default=PATH, metavar="FILE", help="raw results")
    parser.add_argument("--show", action="store_true", help="print the tables of what is there")
    told = parser.parse_args()
    found = groups()
    if unknown := [name for name in told.names if name not in found]:
        parser.error(f"got {unknown[0]!r}, expected one of: {'; '.join(found)}")
    path, measured = told.results, {"groups": {}}
    if path.exists():
        measured = json.loads(path.read_text(encoding="utf-8"))
    if not told.show:
        measured["environment"] = description.environment()
        if not told.names:
            measured["memory"] = memory()
        with tempfile.TemporaryDirectory() as cache:
            env = environment(cache)
            for name in told.names or found:
                print(name, file=sys.stderr, flush=True)
                compile_ours(found[name], env)
                measured["groups"][name] = interleave(found[name], told.rounds, env)
                measured["groups"] = {
                    n: measured["groups"][n] for n in found if n in measured["groups"]
                }
                path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table.to_markdown() for table in tables(measured) if table.rows))


if __name__ == "__main__":
    main()
