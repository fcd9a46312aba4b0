"""Train with a convolution in few products, and as patches: does its lower accuracy change the test error?

    python benchmarks/accuracy.py [--seeds N] [--epochs N] [--out FILE]

Trains `mnist_small` on 10,000 images, whose second convolution is done in few products (of its first, and of
`digits`, the patches are made either way), seed by seed with both. MNIST has to be there, or to be had: see
docs/data.md. Prints the test errors and the mean difference of pairs, and writes them down.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import tempfile
from pathlib import Path

import capsjax as cj
from capsjax import convolution
from capsjax.runs.description import environment
from capsjax.study.statistics import paired_difference, summarise

FORMS = ("transform", "patches")


def error(form: str, seed: int, epochs: int) -> float:
    """Train with one form of the convolution, in a process of its own; return the test error in per cent."""
    if form == "patches":
        convolution.cheapest = lambda *_: "patches"
    changed = {
        "data.train_limit": 10_000,
        "training.epochs": epochs,
        "training.eval_every": epochs,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = cj.train(cj.load_config("mnist_small", changed), out=Path(folder) / "run")
        return 100 * run.test["error"]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="at least 2 (default 10)")
    parser.add_argument("--epochs", type=int, default=10, help="at least 3 (default 10)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of the errors")
    told = parser.parse_args()
    if told.seeds < 2 or told.epochs < 3:  # two have a spread, and three are longer than the warmup
        parser.error(f"got --seeds {told.seeds} --epochs {told.epochs}, expected at least 2 and 3")
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in range(told.seeds):
        for form in FORMS:  # each in a new process: programs that are compiled keep their form
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                found[form].append(pool.submit(error, form, seed, told.epochs).result())
        print(f"seed {seed}:", *(f"{form} {found[form][-1]:.2f} %" for form in FORMS), flush=True)
    for form, errors in found.items():
        print(f"{form}: {(mean := summarise(errors)).mean:.3f} % (sd {mean.sd:.3f})")
    between = paired_difference(*found.values())
    print(f"difference: {between.mean:+.3f} points ({between.low:+.3f} to {between.high:+.3f})")
    if told.out:
        measured = {"environment": environment(), "epochs": told.epochs, "error": found}
        told.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
