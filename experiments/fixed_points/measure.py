"""When is the implicit gradient the gradient of what was computed?

    python experiments/fixed_points/measure.py [--out DIR] [--smallest]

Writes DIR/measurements.json and the figures; without --out, into the folder results beside this file. All
gradients are those of a fixed random probe of the poses with respect to the votes, in float64 and example
by example.
"""

import argparse
import dataclasses
import datetime
import json
import math
import platform
import tempfile
from functools import partial
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from figures import draw

import capsjax as cj
from capsjax.bench.timing import time_interleaved

EXACT = cj.ImplicitGradient(tolerance=1e-10, max_steps=1000)
EXAMPLES, CHILDREN, PARENTS, CHILD_DIM, PARENT_DIM = 4, 12, 5, 4, 6
ARRIVED = 1e-10  # the residual below which an example counts as arrived


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    seeds: int = 10
    iterations: tuple[int, ...] = (2, 3, 5, 10, 20, 30, 50, 100, 200, 500)
    most: int = 2000
    steps: tuple[int, ...] = (
        1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100, 200, 500, 1000,
    )  # fmt: skip
    routings: tuple[str, ...] = ("digits, dynamic", "digits, fixed point")
    epochs: int = 10
    images: int = 16
    children: int = 1152
    costs: tuple[int, ...] = (10, 30, 100)
    rounds: int = 7


SMALLEST = Sizes(
    scales=(), iterations=(2, 30), most=60, steps=(100,), routings=("digits, fixed point",),
    epochs=2, images=4, children=12, costs=(3,), rounds=1,
)  # fmt: skip


def random_votes(scale: float, seeds: int) -> np.ndarray:
    """Draw votes W u with u of N(0, 1) and W of N(0, (scale / 2)^2), [4 seeds, i, j, e]."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        u = rng.normal(size=(EXAMPLES, CHILDREN, CHILD_DIM))
        W = scale / 2 * rng.normal(size=(CHILDREN, PARENTS, CHILD_DIM, PARENT_DIM))
        found.append(np.einsum("bid,ijde->bije", u, W))  # [b, i, j, e]
    return np.concatenate(found)


def trained_votes(sizes: Sizes) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Train the small network on digits, by both routings; return votes for test images, test errors."""
    routings = {
        "digits, dynamic": {"model.routing.gradient": "closed_form"},
        "digits, fixed point": {
            "model.routing": {
                "kind": "fixed_point",
                "num_iters": 10,
                "gradient": {"kind": "implicit"},
            }
        },
    }
    images, found, errors = cj.data.Digits().load().test.images[: sizes.images], {}, {}
    for name, changes in ((name, routings[name]) for name in sizes.routings):
        with tempfile.TemporaryDirectory() as folder:
            config = cj.load_config("digits", {"training.epochs": sizes.epochs, **changes})
            run = cj.train(config, out=Path(folder) / "run")
            u = np.asarray(run.outputs(images).children, np.float64)
            W = np.asarray(run.model.classes.weight[...], np.float64)
            errors[name] = run.test["error"]
        found[name] = np.einsum("bid,ijde->bije", u, W)  # [b, i, j, e], float64
    return found, errors


def gradient(routing: cj.FixedPointRouting, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of a probe of the poses with respect to the votes, and the forward residual."""
    probe = np.random.default_rng(99).normal(size=(len(votes), *votes.shape[-2:]))

    def total(array: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = routing(array)
        return jnp.sum(result.pose * probe), result.residual

    found, residual = jax.jit(jax.grad(total, has_aux=True))(jnp.asarray(votes))
    return np.asarray(found), np.asarray(residual)


def distance(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Measure each example's difference, relative to what was expected.

    Args:
        found: gradients with respect to the votes, [b, i, j, e].
        expected: the same, by another way.

    Returns:
        Ratios of lengths, [b].
    """
    axes = (1, 2, 3)
    return np.sqrt(((found - expected) ** 2).sum(axes) / (expected**2).sum(axes))


def against_iterations(votes: np.ndarray, sizes: Sizes) -> dict[str, object]:
    """Compare implicit and unrolled gradient at each number of iterations, example by example."""
    end = cj.FixedPointRouting(num_iters=sizes.most, tolerance=1e-14, gradient=EXACT)
    converged, last = gradient(end, votes)
    unrolled, _ = gradient(
        cj.FixedPointRouting(num_iters=min(500, sizes.most), gradient=cj.FullGradient()), votes
    )
    rows = []
    for r in sizes.iterations:
        full, residual = gradient(
            cj.FixedPointRouting(num_iters=r, gradient=cj.FullGradient()), votes
        )
        exact, _ = gradient(cj.FixedPointRouting(num_iters=r, gradient=EXACT), votes)
        usual, _ = gradient(
            cj.FixedPointRouting(num_iters=r, gradient=cj.ImplicitGradient()), votes
        )
        rows.append(
            {
                "r": r,
                "residual": residual,
                "implicit_to_full": distance(exact, full),
                "implicit_to_end": distance(exact, converged),
                "full_to_end": distance(full, converged),
                "unsolved": np.isnan(usual).any((1, 2, 3)),
            }
        )
    return {
        "arrived": last < ARRIVED,
        "end_to_unrolled_500": distance(converged, unrolled),
        "rows": rows,
    }


def solver_steps(votes: np.ndarray, sizes: Sizes) -> dict[str, np.ndarray]:
    """Find the fewest steps, of those tried, with which each solver solves each example at the end.

    To the tolerance that is the default. NaN: not with any.
    """
    found = {}
    for solver in ("cg", "neumann"):
        needed = np.full(len(votes), np.nan)
        for steps in sizes.steps:
            mode = cj.ImplicitGradient(solver=solver, max_steps=steps)
            end = cj.FixedPointRouting(num_iters=sizes.most, tolerance=1e-12, gradient=mode)
            solved = ~np.isnan(gradient(end, votes)[0]).any((1, 2, 3))
            needed = np.where(solved & np.isnan(needed), steps, needed)
            if not np.isnan(needed).any():
                break
        found[solver] = needed
    return found


def part(value: object, chosen: slice) -> object:
    """Take some examples of what was measured of many.

    Args:
        value: arrays with the examples on the first axis, in lists and mappings.
        chosen: the examples.

    Returns:
        The same structure with those examples.
    """
    if isinstance(value, dict):
        return {key: part(item, chosen) for key, item in value.items()}
    if isinstance(value, list):
        return [part(item, chosen) for item in value]
    return value[chosen] if isinstance(value, np.ndarray) else value


def walk(
    routing: cj.FixedPointRouting | cj.DynamicRouting, votes: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """Follow n updates: the largest |b|, both objectives and the residual before each, [n, b]."""
    inputs = routing.prepare(cj.DenseVotes(jnp.asarray(votes)), cj.Capsules(None, None), {})

    def step(state: jax.Array, t: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        coupling = routing.couple(state, inputs)
        r = cj.safe_norm(inputs.votes.combine(coupling))  # |s_j|, [b, j]
        attraction = jnp.sum(r - jnp.arctan(r), -1)  # sum of phi, [b]
        entropy = jax.scipy.special.entr(coupling).sum((1, 2))  # [b]
        line = {
            "logit": jnp.abs(state).max((1, 2)),
            "attraction": attraction,
            "F": attraction + entropy,
            "largest": coupling.max(-1).mean(-1),
        }
        if isinstance(routing, cj.FixedPointRouting):
            line["residual"] = routing.residual(coupling, state, inputs)
        return routing.update(t, state, inputs), line

    _, lines = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(n)))(routing.init(inputs))
    return {name: np.asarray(line) for name, line in lines.items()}


def forward(votes: np.ndarray, sizes: Sizes) -> dict[str, object]:
    """Measure damping, the rate of convergence, and what the logits and the objectives do."""
    damped = {}
    for damping in (0.0, 0.5, 0.9):
        seen = walk(cj.FixedPointRouting(damping=damping), votes, sizes.most)
        below = seen["residual"] <= 1e-6
        # The number of iterations r of a readout is one more than the updates before it.
        damped[str(damping)] = np.where(below.any(0), below.argmax(0) + 1, np.nan)
        if damping == 0:
            undamped = seen
        fall = float(np.diff(seen["F"], axis=0).min())
        damped[f"fall_{damping}"] = fall
    dynamic = walk(cj.DynamicRouting(), votes, 1000)
    shown = sorted({int(n) for n in np.geomspace(1, 1000, 40)})
    logits = {
        name: {str(n): np.median(seen["logit"][n]) for n in shown if n < len(seen["logit"])}
        for name, seen in (("dynamic", dynamic), ("fixed_point", undamped))
    }
    objectives = {
        f"{name}_{what}": np.median(seen[what][:60], axis=1)
        for name, seen in (("dynamic", dynamic), ("fixed_point", undamped))
        for what in ("attraction", "F")
    }
    return {
        "iterations_to_1e-6": damped,
        "rate": rates(undamped["residual"]),
        "largest_logit": logits,
        "mean_largest_coupling": {
            "dynamic_10": np.median(dynamic["largest"][9]),
            "dynamic_1000": np.median(dynamic["largest"][999]),
            "fixed_point_end": np.median(undamped["largest"][-1]),
        },
        "objectives": objectives,
        "least_rise_of_attraction_dynamic": float(np.diff(dynamic["attraction"], axis=0).min()),
        "greatest_fall_of_F_dynamic": float(np.diff(dynamic["F"], axis=0).min()),
    }


def rates(residual: np.ndarray) -> np.ndarray:
    """Return by what an update multiplies each example's residual, between 1e-6 and 1e-11, [b]."""
    # Near enough to the end for its rate, and far enough from it for rounding not to decide.
    found = np.full(residual.shape[1], np.nan)
    for b, line in enumerate(residual.T):
        place = np.flatnonzero((line < 1e-6) & (line > 1e-11))
        if len(place) > 1:
            first, last = place[0], place[-1]
            found[b] = (line[last] / line[first]) ** (1 / (last - first))
    return found


MODES = {
    "full": cj.FullGradient(),
    "full, remat": cj.FullGradient(remat=True),
    "implicit, cg": cj.ImplicitGradient(),
    "implicit, neumann": cj.ImplicitGradient(solver="neumann"),
    "stop": cj.StopGradient(),
}


def costs(sizes: Sizes, batch: int = 32) -> list[dict[str, object]]:
    """Time value and gradient at the 2017 network's size in turn, in float32; memory as compiled."""
    keys = jax.random.split(jax.random.key(0))
    u = 0.3 * jax.random.normal(keys[0], [batch, sizes.children, 8])
    W = 0.1 * jax.random.normal(keys[1], [sizes.children, 10, 8, 16])
    probe = jax.random.normal(jax.random.key(2), [batch, 10, 16])
    found = []
    for r in sizes.costs:
        programs = {}
        for name, mode in MODES.items():
            routing = cj.FixedPointRouting(num_iters=r, gradient=mode)

            def total(u, W, routing=routing):
                result = routing(cj.predict(u, W))
                return jnp.sum(result.pose * probe), result.residual

            lowered = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True)).lower(u, W)
            programs[name] = lowered.compile()
        ends = {name: jax.block_until_ready(program(u, W)) for name, program in programs.items()}
        calls = {name: partial(program, u, W) for name, program in programs.items()}
        seconds = time_interleaved(calls, sizes.rounds, warm_up=0)
        of_full = ends["full"][1]
        for name in programs:
            ratio = np.asarray(seconds[name]) / np.asarray(seconds["full"])
            apart = [
                float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
                for a, b in zip(ends[name][1], of_full, strict=True)
            ]
            found.append(
                {
                    "r": r,
                    "mode": name,
                    "time_of_full": [
                        float(np.median(ratio)),
                        float(ratio.min()),
                        float(ratio.max()),
                    ],
                    "temp_bytes": int(programs[name].memory_analysis().temp_size_in_bytes),
                    "residual": float(ends[name][0][1].max()),
                    "gradient_to_full": max(apart),
                }
            )
    return found


def plain(value: object) -> object:
    """Turn arrays into lists with four digits, and what is not finite into None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def measure(sizes: Sizes) -> dict[str, object]:
    """Measure everything."""
    random = {
        f"random, scale {scale:g}": random_votes(scale, sizes.seeds) for scale in sizes.scales
    }
    trained, errors = trained_votes(sizes)
    found = {}
    with jax.enable_x64(True):
        for groups in filter(None, (random, trained)):
            # All examples of one shape at once: each is solved by itself, and compiling takes the time.
            together, start = np.concatenate(list(groups.values())), 0
            gradients = against_iterations(together, sizes)
            steps = solver_steps(together, sizes)
            for name, votes in groups.items():
                chosen = slice(start, start + len(votes))
                start = chosen.stop
                found[name] = {
                    "shape": list(votes.shape),
                    "vote_length": float(np.sqrt((votes**2).sum(-1)).mean()),
                    "gradients": part(gradients, chosen),
                    "solver_steps": part(steps, chosen),
                    "forward": forward(votes, sizes),
                }
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(), "jax": jax.__version__, "flax": flax.__version__
        },
        "sizes": dataclasses.asdict(sizes),
        "test_errors": errors,
        "groups": found,
        "costs": costs(sizes),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder"
    )
    parser.add_argument("--smallest", action="store_true", help="as little as can be, to try it")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    options = parser.parse_args(arguments)
    path = options.out / "measurements.json"
    if not options.draw:
        options.out.mkdir(parents=True, exist_ok=True)
        found = plain(measure(SMALLEST if options.smallest else Sizes()))
        path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(json.loads(path.read_text("utf-8")), options.out)


if __name__ == "__main__":
    main()
