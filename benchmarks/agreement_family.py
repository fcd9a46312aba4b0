"""Compare every routing, on every kind of votes, in every gradient mode, with oracles and differences.

    python -m benchmarks.agreement_family [--jobs N] [ROUTING ...]

In float64, from the rows of the conformance matrix in tests/routing/table.py. For each routing, number of
iterations r, kind of votes and gradient mode: the largest difference of a result to the oracle of the paper,
written in NumPy loops, and of a gradient to central differences, of fourth order, of the oracle in which what
the mode stops is frozen, along random directions of each array; each relative to the largest component of
that array, or slope. Writes benchmarks/results/agreement.json, and prints the table of
docs/backpropagation_family.md.
"""

import argparse
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import capsjax as cj
from benchmarks.agreement_votes import ALL, SOME, Held, cotangents
from capsjax.gradients import GradientMode
from tests.oracles import (
    heinsen,
    interest,
    inverted_attention,
    k_means,
    slot_attention,
    variational,
)
from tests.routing import table
from tests.routing.table import Given, Row

PATH = Path(__file__).parent / "results" / "agreement.json"
STEP = 5e-5
DIRECTIONS = 3  # of each array: a component that is wrong shows in all of them
NAMES = tuple(held.name for held in ALL)
EM = {
    "paper": {"final_lambda": 5.0, "floor": 0.2},
    "released": {"final_lambda": 0.01, "floor": 0.2},
}

Record = dict[str, Any]


OTHER_ROUNDS = (1, 2, 5)
# Of routings whose oracles take the same arguments, with what they are told beside how often to iterate.
ALIKE = {
    "inverted_attention": (inverted_attention, {}),
    "soft_k_means": (k_means, {"beta": table.NEAR["beta"]}),
    "slot_attention": (slot_attention, {}),
    "interest": (interest, {}),
    "heinsen": (heinsen, {}),
    "variational": (variational, {}),
}


def rows() -> Iterator[Row]:
    """Yield the rows of the matrix, and those that are iterated more or less often as well."""
    yield from table.TABLE
    for r in OTHER_ROUNDS:
        modes = (cj.StopGradient(), cj.FullGradient())
        modes = (*modes, cj.TruncatedGradient(last=1)) if r > 2 else modes
        yield table._dynamic("dynamic", r, False, (*modes, cj.ClosedForm()))
        yield table._dynamic("dynamic_leaky", r, True, (*modes, cj.ClosedForm()))
        yield table._fixed_point("fixed_point", r, 0.2, 0.0, False, modes)
        for form, options in EM.items():
            yield table._em(form, r, modes, **options)
        for row in table.TABLE:
            if row.name in ALIKE:
                closed = cj.ClosedForm() in row.modes
                yield iterated(row, r, (*modes, cj.ClosedForm()) if closed else modes)


def iterated(row: Row, r: int, modes: tuple[GradientMode, ...]) -> Row:
    """Return a row with another number of iterations.

    Args:
        row: of the matrix, one of `ALIKE`.
        r: how many.
        modes: which gradient modes are tried.

    Returns:
        The row.
    """
    own, options = ALIKE[row.name]
    options = {"num_iters": r, **options}
    return dataclasses.replace(
        row,
        routing=dataclasses.replace(row.routing, num_iters=r),
        oracle=lambda *given: own.routing(*given, **options),
        frozen=lambda *given: own.frozen(*given[:-1], last=table._last(given[-1], r), **options),
        modes=modes,
    )


def kinds(row: Row) -> tuple[Held, ...]:
    """Return the kinds of votes that a row is tried on: all, of what the matrix has; else some."""
    return ALL if any(row is one for one in table.TABLE) else SOME


def result_of(routing: cj.Routing, held: Held, given: Given) -> table.oracle.Result:
    """Route, and return what the oracles return.

    Args:
        routing: the routing.
        held: how votes are held.
        given: poses, matrices, activations and the routing's own parameters.

    Returns:
        Pose, coupling, logits and activation.
    """
    votes = held.votes(given.u, given.W)
    takes = {"poses": given.u, "activation": given.activation}
    taken = {name: held.seen(votes, takes[name]) for name in routing.takes}
    found = routing(votes, **taken, params=given.params)
    parts = found.pose, found.coupling, found.logits, found.activation
    return table.oracle.Result(*map(held.plain, parts))


def product(result: Any, bars: Any) -> Any:
    """Return the sum of a result's arrays times a cotangent of each."""
    return sum((bar * leaf).sum() for bar, leaf in zip(bars, result, strict=True))


def ways(leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Draw the directions in which each array is moved, each [DIRECTIONS, *its shape]."""
    rng = np.random.RandomState(2)
    return [rng.normal(size=(DIRECTIONS, *np.shape(leaf))) for leaf in leaves]


def differences(function: Callable[..., float], leaves: list[np.ndarray]) -> list[np.ndarray]:
    """Differentiate along random directions of each array, by central differences of fourth order.

    Args:
        function: of arrays to a number.
        leaves: where it is differentiated.

    Returns:
        The slopes along the directions of each array, [DIRECTIONS] each.
    """
    found = []
    for place, (array, directions) in enumerate(zip(leaves, ways(leaves), strict=True)):
        slopes = []
        for way in directions:
            values = [
                function(*leaves[:place], array + step * STEP * way, *leaves[place + 1 :])
                for step in (1, -1, 2, -2)
            ]
            near, far = values[0] - values[1], values[2] - values[3]
            slopes.append((8 * near - far) / (12 * STEP))  # the error is of order STEP^4
        found.append(np.array(slopes))
    return found


def along(gradient: Any) -> list[np.ndarray]:
    """Return the slopes that a gradient has along the same directions, [DIRECTIONS] each."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    drawn = zip(leaves, ways(leaves), strict=True)
    return [np.array([np.vdot(leaf, way) for way in directions]) for leaf, directions in drawn]


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


def compare(row: Row, kinds: Sequence[Held]) -> Iterator[Record]:
    """Yield what is measured of one routing.

    Args:
        row: the routing, its oracles and its modes.
        kinds: the kinds of votes.

    Returns:
        A record for each kind and mode.
    """
    # By differences, which depend neither on the form of the votes nor on the way back.
    expected: dict[Any, Any] = {}
    for held in kinds:
        arrays = held.arrays(row)
        given = jax.tree.map(jnp.asarray, arrays)
        for mode in row.modes or (None,):
            routing = row.with_mode(mode)
            r = getattr(routing, "num_iters", None)
            key = held.alike, mode if stops(mode) else None
            with held.told():
                value = row.oracle(*held.written_out(arrays))
                if key not in expected:
                    expected[key] = of_oracle(row, held, mode, cotangents(value))
            gradient, result = of_routing(routing, held, cotangents(value))(given)
            yield {
                "routing": row.name,
                "r": r,
                "votes": held.name,
                "mode": mode_name(mode),
                "value": distance(result, value),
                "gradient": distance(along(gradient), expected[key]),
            }


def stops(mode: GradientMode | None) -> bool:
    """Return whether a mode holds anything constant."""
    return isinstance(mode, cj.StopGradient | cj.TruncatedGradient)


def of_oracle(row: Row, held: Held, mode: GradientMode | None, bars: Any) -> list[np.ndarray]:
    """Differentiate the oracle in which what the mode stops is frozen.

    Args:
        row: the routing and its oracles.
        held: how votes are held.
        mode: the gradient mode; None for a routing without one.
        bars: cotangents of a result.

    Returns:
        The slopes of its product with them, as `differences` has them.
    """
    arrays = held.arrays(row)
    leaves, tree = jax.tree.flatten(arrays)
    # Where nothing is stopped, what the first coupling comes from is live too, however few updates follow.
    live = row.frozen(*held.written_out(arrays), mode) if stops(mode) else row.oracle

    def total(*at: np.ndarray) -> float:
        return product(live(*held.written_out(jax.tree.unflatten(tree, at))), bars)

    return differences(total, leaves)


def of_routing(routing: cj.Routing, held: Held, bars: Any) -> Callable[[Given], Any]:
    """Return what gives the gradient of the same product, and the result.

    Args:
        routing: the routing, in its mode.
        held: how votes are held.
        bars: cotangents of a result.

    Returns:
        A function of what is given.
    """

    def total(given: Given) -> Any:
        result = result_of(routing, held, given)
        return product(result, bars), result

    return jax.jit(jax.grad(total, has_aux=True))


def mode_name(mode: GradientMode | None) -> str:
    """Return a mode's name with its options, such as "truncated, 1"; "live" where there is none."""
    if mode is None:
        return "live"
    names = {"remat": "remat", "last": str(getattr(mode, "last", ""))}
    options = [names[n] for n, value in dataclasses.asdict(mode).items() if n in names and value]
    return ", ".join([mode.kind.replace("_", " "), *options])


def lines(records: list[Record]) -> list[str]:
    """Return the table of the documentation: numbers of iterations tried on the same votes are one line.

    Args:
        records: what was measured.

    Returns:
        Lines of Markdown, over the votes and the numbers of iterations that they name the worst.
    """
    each: dict[tuple[str, str, Any], list[Record]] = {}
    for record in records:
        each.setdefault((record["routing"], record["mode"], record["r"]), []).append(record)
    found: dict[tuple[str, str, tuple[str, ...]], list[Record]] = {}
    for (routing, mode, _), group in each.items():
        votes = tuple(sorted({one["votes"] for one in group}, key=NAMES.index))
        found.setdefault((routing, mode, votes), []).extend(group)
    order = list(dict.fromkeys((one["routing"], one["mode"]) for one in records))
    shown = [
        "| routing | r | votes | mode | to the oracle | gradient to differences |",
        "|---|---|---|---|---:|---:|",
    ]
    for (routing, mode, votes), group in sorted(found.items(), key=lambda x: order.index(x[0][:2])):
        rounds = sorted({one["r"] for one in group if one["r"] is not None})
        of = "all" if votes == NAMES else ", ".join(votes)
        value, gradient = (max(one[name] for one in group) for name in ("value", "gradient"))
        r = ",".join(map(str, rounds)) or "—"  # without a space, at which it would break
        shown.append(f"| {routing} | {r} | {of} | {mode} | {value:.0e} | {gradient:.0e} |")
    return shown


def measured(number: int) -> list[Record]:
    """Measure one row, by its number in `rows`, in a process of its own."""
    jax.config.update("jax_enable_x64", True)
    row = list(rows())[number]
    records = list(compare(row, kinds(row)))
    for record in records:
        print(*record.values(), file=sys.stderr, flush=True)
    return records


def main(names: list[str], jobs: int) -> None:
    """Measure, write the file if nothing is left out, and print the table.

    Args:
        names: of the routings, these; all, if there are none.
        jobs: how many processes.
    """
    numbers = [n for n, row in enumerate(rows()) if not names or row.name in names]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        records = [record for found in pool.map(measured, numbers) for record in found]
    if not names:
        found = {"jax": jax.__version__, "numpy": np.__version__, "records": records}
        PATH.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print("\n".join(lines(records)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("routings", nargs="*", metavar="ROUTING", help="of all of them these")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    args = parser.parse_args()
    main(args.routings, args.jobs)
