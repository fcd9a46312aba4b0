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

import numpy as np

import capsjax as cj
from capsjax import convolution
from capsjax.runs.folder import Folder
from capsjax.study.statistics import paired_difference

FORMS = ("transform", "patches")


def error(form: str, seed: int, epochs: int) -> float:
    """Train with one form of the convolution and return the test error; in a process of its own."""
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
        return next(line["error"] for line in Folder(run.folder).metrics if line["split"] == "test")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of the errors")
    told = parser.parse_args()
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in range(told.seeds):
        for form in FORMS:  # each in a new process: programs that are compiled keep their form
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                found[form].append(pool.submit(error, form, seed, told.epochs).result())
        print(seed, *(f"{form}: {100 * found[form][-1]:.2f} %" for form in FORMS), flush=True)
    few, patches = (100 * np.asarray(found[form]) for form in FORMS)
    for form, errors in zip(FORMS, (few, patches), strict=True):
        print(f"{form}: {errors.mean():.3f} % (sd {errors.std(ddof=1):.3f})")
    print(paired_difference(few, patches))
    if told.out:
        told.out.write_text(
            json.dumps({"epochs": told.epochs, "error": found}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
