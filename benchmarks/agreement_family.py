"""Compare every routing, on every kind of votes, in every gradient mode, with oracles and differences.

    python -m benchmarks.agreement_family [ROUTING ...]

In float64, from the rows of the conformance matrix in tests/routing/table.py. For each routing, number of
iterations r, kind of votes and gradient mode: the largest difference of a result to the oracle of the paper,
written in NumPy loops, and of a gradient to central differences, of fourth order, of the oracle in which what
the mode stops is frozen; each relative to the largest component of its array. Writes
benchmarks/results/agreement.json, and prints the table of docs/backpropagation_family.md.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import capsjax as cj
from capsjax.gradients import GradientMode
from tests.oracles import numerics as oracle_numerics
from tests.routing import table
from tests.routing.kinds import KINDS, MASKED, Kind
from tests.routing.table import Given, Row

PATH = Path(__file__).parent / "results" / "agreement.json"
STEP = 2e-4
WINDOW = Kind("window", lambda u, W, allowed: cj.window_votes(u, W[None, None]))
EM = {
    "paper": {"final_lambda": 5.0, "floor": 0.2},
    "released": {"final_lambda": 0.01, "floor": 0.2},
}

Record = dict[str, Any]


def rows() -> Iterator[Row]:
    """Yield the rows of the matrix, and those that are iterated more or less often as well."""
    yield from table.TABLE
    for r in (1, 2, 5):
        modes = (cj.StopGradient(), cj.FullGradient())
        modes = (*modes, cj.TruncatedGradient(last=1)) if r > 2 else modes
        yield table._dynamic("dynamic", r, False, (*modes, cj.ClosedForm()))
        for form, options in EM.items():
            yield table._em(form, r, modes, **options)


def kinds(row: Row) -> list[Kind]:
    """Return the kinds of votes that a row is tried on: masks and windows where linear votes are."""
    more = [MASKED, WINDOW] if "linear" in row.kinds else []
    if row not in table.TABLE:  # how often it is iterated does not depend on how votes are held
        return [KINDS[0], WINDOW]
    if "poses" in row.routing.takes:  # a window's children have no poses of their own shape
        more = [MASKED] if more else []
    return [kind for kind in KINDS if kind.name in row.kinds] + more


def result_of(routing: cj.Routing, kind: Kind, given: Given) -> table.oracle.Result:
    """Route, and return what the oracles return, without the axes of a window's position.

    Args:
        routing: the routing.
        kind: of votes.
        given: poses, matrices, activations and the routing's own parameters.

    Returns:
        Pose, coupling, logits and activation.
    """
    # A grid of one position, in which the window sees every child as a type of its own.
    on_grid = (lambda x: x[:, None, None]) if kind is WINDOW else lambda x: x
    u, a = on_grid(given.u), on_grid(given.activation)
    takes = {name: {"poses": u, "activation": a}[name] for name in routing.takes}
    found = routing(kind(u, given.W), **takes, params=given.params)
    plain = (lambda x: x[:, 0, 0]) if kind is WINDOW else lambda x: x
    return table.oracle.Result(
        *(plain(x) for x in (found.pose, found.coupling, found.logits, found.activation))
    )


def product(result: Any) -> Any:
    """Return the sum of a result's arrays times a cotangent of each."""
    return sum((bar * leaf).sum() for bar, leaf in zip(table.bars(), result, strict=True))


def differences(function: Callable[..., float], leaves: list[np.ndarray]) -> list[np.ndarray]:
    """Differentiate by central differences of fourth order.

    Args:
        function: of arrays to a number.
        leaves: where it is differentiated.

    Returns:
        Its gradients with respect to each of them.
    """
    found = []
    for place, array in enumerate(leaves):
        gradient = np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            values = []
            for step in (1, -1, 2, -2):
                moved = array.copy()
                moved[at] += step * STEP
                values.append(function(*leaves[:place], moved, *leaves[place + 1 :]))
            near, far = values[0] - values[1], values[2] - values[3]
            gradient[at] = (8 * near - far) / (12 * STEP)  # the error is of order STEP^4
        found.append(gradient)
    return found


def distance(found: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest component of each array.

    Args:
        found: arrays.
        expected: the same, by another way; of those that are 0 the difference itself counts.

    Returns:
        The largest of all.
    """
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in pairs)


def compare(row: Row) -> Iterator[Record]:
    """Yield what is measured of one routing: a record for each kind of votes and mode."""
    leaves, tree = jax.tree.flatten(table.arrays(row))
    given = jax.tree.map(jnp.asarray, table.arrays(row))
    expected: dict[Any, Any] = {}  # finite differences do not depend on how votes are held
    for kind in kinds(row):
        for mode in row.modes or (None,):
            routing = row.with_mode(mode)
            key = kind.allowed, mode
            with oracle_numerics.pairs(kind.allowed):
                value = row.oracle(*table.arrays(row))
                if key not in expected:
                    live = row.frozen(*table.arrays(row), mode)
                    expected[key] = differences(
                        lambda *at, live=live: product(live(*jax.tree.unflatten(tree, at))), leaves
                    )

            def total(given: Given, routing: Any = routing, kind: Kind = kind) -> Any:
                result = result_of(routing, kind, given)
                return product(result), result

            gradient, result = jax.jit(jax.grad(total, has_aux=True))(given)
            yield {
                "routing": row.name,
                "r": getattr(routing, "num_iters", None),
                "votes": kind.name,
                "mode": mode_name(mode),
                "value": distance(result, value),
                "gradient": distance(gradient, expected[key]),
            }


def mode_name(mode: GradientMode | None) -> str:
    """Return a mode's name with its options, such as "truncated, 1"; "live" where there is none."""
    if mode is None:
        return "live"
    names = {"remat": "remat", "last": str(getattr(mode, "last", ""))}
    options = [names[n] for n, value in dataclasses.asdict(mode).items() if n in names and value]
    return ", ".join([mode.kind.replace("_", " "), *options])


def lines(records: list[Record]) -> list[str]:
    """Return the table of the documentation: over kinds of votes and numbers of iterations the worst.

    Args:
        records: what was measured.

    Returns:
        Lines of Markdown.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record["routing"], record["mode"]), []).append(record)
    shown = [
        "| routing | r | votes | mode | to the oracle | gradient to differences |",
        "|---|---|---|---|---:|---:|",
    ]
    for (routing, mode), group in found.items():
        rounds = sorted({one["r"] for one in group if one["r"] is not None})
        votes = list(dict.fromkeys(one["votes"] for one in group))
        of = "all five" if len(votes) == 5 else ", ".join(votes)
        value, gradient = (max(one[name] for one in group) for name in ("value", "gradient"))
        r = ",".join(map(str, rounds)) or "—"  # without a space, at which it would break
        shown.append(f"| {routing} | {r} | {of} | {mode} | {value:.0e} | {gradient:.0e} |")
    return shown


def main(names: list[str]) -> None:
    """Measure, write the file if nothing is left out, and print the table."""
    jax.config.update("jax_enable_x64", True)
    records = []
    for row in rows():
        if not names or row.name in names:
            for record in compare(row):
                records.append(record)
                print(*record.values(), file=sys.stderr, flush=True)
    if not names:
        found = {"jax": jax.__version__, "numpy": np.__version__, "records": records}
        PATH.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print("\n".join(lines(records)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("routings", nargs="*", metavar="ROUTING", help="of all of them these")
    main(parser.parse_args().routings)
