"""Whatever is added is one file: importing it suffices for a configuration to find its `kind`, and to train.

The files are written here, and imported and trained in a process of their own: their classes, once defined,
are among the variants for as long as the process lives. To hold another kind of thing to it: a file in
`FILES` under a name, and where a configuration names it in `OVERRIDES`.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import capsjax

HEAD = """
import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import capsjax as cj


@dataclasses.dataclass(frozen=True, kw_only=True)
"""

FILES = {
    "loss": """
from capsjax.losses import Loss

class SquaredLoss(Loss):
    kind: Literal["own_loss"] = "own_loss"

    def of_classes(self, output, batch):
        present = jax.nn.one_hot(batch.labels, output.lengths.shape[-1])
        return jnp.sum(jnp.square(output.lengths - present), -1)
""",
    "metric": """
from capsjax.metrics import Metric

class LongestLength(Metric):
    kind: Literal["own_metric"] = "own_metric"

    def __call__(self, output, batch):
        return output.lengths.max(-1)
""",
    "augmentation": """
from capsjax.data import Augmentation

class Noise(Augmentation):
    kind: Literal["own_augmentation"] = "own_augmentation"

    def __call__(self, key, images):
        return jnp.clip(images + 0.1 * jax.random.normal(key, images.shape), 0, 1)
""",
    "data": """
from capsjax.data import Dataset, Source, Split
from capsjax.data.source import DataShape

class Stripes(Source):
    kind: Literal["own_data"] = "own_data"

    def shape(self):
        return DataShape((8, 8, 1), 3)

    def load(self, report=None):
        labels = np.arange(12) % 3
        images = np.zeros((12, 8, 8, 1), np.float32)
        for number, label in enumerate(labels):
            images[number, label :: 3] = 1
        split = Split(images, labels)
        return Dataset(self.kind, split, split, split, 3, 1.0)
""",
    "optimiser": """
from capsjax.training.optimisers import Optimiser

class SignDescent(Optimiser):
    kind: Literal["own_optimiser"] = "own_optimiser"

    def rule(self, rate):
        signs = optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))
        return optax.chain(signs, optax.scale_by_learning_rate(rate))
""",
    "schedule": """
from capsjax.training.schedules import Schedule

class Halving(Schedule):
    kind: Literal["own_schedule"] = "own_schedule"

    def after_warmup(self, warmup, total_steps):
        return lambda step: self.rate * 0.5**step
""",
    "routing": """
from capsjax.routing import AgreementRouting

class HalfRouting(AgreementRouting):
    kind: Literal["own_routing"] = "own_routing"

    def respond(self, t, logits, parents, inputs):
        return logits + 0.5 * inputs.votes.agreement(parents.pose)
""",
    "gradient": """
from capsjax.gradients.base import GradientMode, iterate

class PlainGradient(GradientMode):
    kind: Literal["own_gradient"] = "own_gradient"

    def __call__(self, routing, inputs, num_updates):
        state = iterate(routing, inputs, routing.init(inputs), 0, num_updates)
        return routing.couple(state, inputs), state
""",
    "margin": """
from capsjax.losses import MarginSchedule

class RootMargin(MarginSchedule):
    kind: Literal["own_margin"] = "own_margin"

    def __call__(self, progress):
        return jnp.sqrt(progress)
""",
}

# Where a configuration names each; a margin belongs to another loss, so it is found, but not trained with.
OVERRIDES = {
    "loss": ("loss", "own_loss"),
    "metric": ("metrics", ["own_metric"]),
    "augmentation": ("augment", ["own_augmentation"]),
    "data": ("data", "own_data"),
    "optimiser": ("optimiser", "own_optimiser"),
    "schedule": ("optimiser.schedule", "own_schedule"),
    "routing": ("model.routing", {"kind": "own_routing", "num_iters": 2}),
    "gradient": ("model.routing.gradient", "own_gradient"),
    "margin": ("loss", {"kind": "spread", "margin": "own_margin"}),
}

PROGRAM = """
import importlib, json, operator, sys
import capsjax as cj

names, overrides = json.loads(sys.argv[1])
found = {}
for name in names:
    importlib.import_module(f"own_{name}")
for name in names:
    path, value = overrides[name]
    config = cj.load_config("smoke", {path: value})
    here = operator.attrgetter(path)(config)
    here = here[0] if isinstance(here, tuple) else getattr(here, name) if name == "margin" else here
    found[name] = type(here).__module__
together = dict(overrides[name] for name in names if name != "margin")
together["training"] = {"epochs": None, "steps": 2, "batch_size": 4, "log_every": 1}
run = cj.train(cj.load_config("smoke", together), out="run")
print(json.dumps({"found": found, "lines": run.metrics, "again": str(cj.load("run").config == run.config)}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a process says that imports the files, and trains with all of them at once."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        imports, _, body = text.strip().partition("\n\n")
        decorator = "@dataclasses" + HEAD.split("@dataclasses")[1]
        head = HEAD.split("@dataclasses")[0]
        (folder / f"own_{name}.py").write_text(f"{head}{imports}\n\n\n{decorator}{body}\n")
    command = [sys.executable, "-c", PROGRAM, json.dumps([list(FILES), OVERRIDES])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_finds_what_one_file_adds(name, told):
    assert told["found"][name] == f"own_{name}"


def test_a_run_trains_with_all_of_them(told):
    assert told["again"] == "True"
    split, steps = (
        [line["split"] for line in told["lines"]],
        [line["step"] for line in told["lines"]],
    )
    assert (split[:2], split[-1], steps[:2]) == (["train", "train"], "test", [1, 2])
    for line in told["lines"]:
        assert line["loss"] >= line["own_loss"] > 0
        assert 0 < line["own_metric"] < 1
    assert told["lines"][-1]["examples"] == 12


PACKAGE = Path(capsjax.__file__).parent
# Words that are also something else, or that comparisons and the looks of reports still name one by one.
OTHERWISE = {
    "activation": "a field of capsules and of layers",
    "batch": "examples that go together, and a normalisation over them",
    "calibration_error": "a metric, and what every evaluation writes",
    "folder": "the place of a run, and of what a set's files are in",
    "group": "layers that compare as one, and a normalisation over channels",
    "cosine": "the angle between gradients in a comparison",
    "linear": "a form of votes, a schedule of the learning rate and of a margin",
    "margin": "a field of losses",
    "shift": "what other programs call max_shift",
    **dict.fromkeys(("closed_form", "full", "implicit", "stop", "truncated", "uniform"), "modes"),
}


def words_of(tree):
    """Return the strings of a file, without those that `__all__` lists: they are names of Python."""
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    listed = {id(inner) for node in public for inner in ast.walk(node)}
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str) and id(node) not in listed}


def kinds_of(tree):
    """Return the kinds that classes of a file declare: `kind: Literal["full"]`."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign))
    kinds = [node.annotation for node in nodes if getattr(node.target, "id", "") == "kind"]
    return {kind.slice.value for kind in kinds if isinstance(kind, ast.Subscript)}


def test_the_name_of_a_kind_stands_in_two_files_of_the_package_at_most():
    trees = {file: ast.parse(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")}
    kinds = set().union(*map(kinds_of, trees.values()))
    assert {"adam", "em", "digits", "flip", "spread", "top_k_error"} <= kinds
    words = {file: words_of(tree) for file, tree in trees.items()}
    for kind in kinds - OTHERWISE.keys():
        files = [str(file.relative_to(PACKAGE)) for file, found in words.items() if kind in found]
        assert len(files) <= 2, (kind, files)
    assert OTHERWISE.keys() <= kinds
