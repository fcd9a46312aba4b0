"""How values show themselves: one line each, and a table in a notebook; never their numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.data import Arrays, Digits, Mnist
from capsjax.display import brief
from capsjax.layers import CapsNetConfig, ConvConfig, DecoderConfig, NetworkOutput, PrimaryConfig
from capsjax.losses import MarginLoss
from capsjax.runs.config import CompareConfig
from capsjax.training.config import TrainingConfig
from capsjax.training.optimisers import Adam, Constant, Cosine, Exponential, Piecewise
from capsjax.training.state import TrainState
from capsjax.types import Batch

DENSE = cj.DenseVotes(jnp.ones([2, 3, 4, 5]))
LINEAR = cj.LinearVotes(jnp.ones([2, 3, 6]), jnp.ones([3, 4, 6, 5]))
DATASET = Arrays().build((np.zeros([20, 3, 2], np.uint8), np.arange(20) % 2))
PARAMS = {"stem.kernel": jnp.ones([3, 3]), "stem.bias": jnp.ones([3])}
SHOWN = {
    "DenseVotes(array=float32[2, 3, 4, 5])": DENSE,
    "LinearVotes(u=float32[2, 3, 6], W=float32[3, 4, 6, 5])": LINEAR,
    "ParentsFirstVotes(u=float32[3, 6, 2], matrices=float32[4, 18, 5], batch=(2))": LINEAR.arranged(),
    "RoutingResult(pose=float32[2, 4, 5], coupling=float32[2, 3, 4], logits=float32[2, 3, 4], "
    "activation=float32[2, 4], trace=RoutingTrace(coupling=float32[1, 2, 3, 4], entropy=float32[1, 2], "
    "agreement=float32[1, 2]), residual=None)": cj.dynamic_routing(DENSE, num_iters=1, trace=True),
    "NetworkOutput(lengths=float32[1], poses=float32[1], coupling=float32[1], children=float32[1], "
    "reconstruction=None, trace=None, layers={})": NetworkOutput(*(jnp.ones(1),) * 4, None, None),
    "Batch(images=float32[1], labels=float32[1], weights=float32[1], progress=None, targets=None)": Batch(
        *(jnp.ones(1),) * 3
    ),
    "TrainState(step=int32[], params=2 arrays of 12 numbers, opt_state=(), statistics={})": TrainState(
        jnp.zeros((), jnp.int32), PARAMS, ()
    ),
    "Split(images=uint8[16, 3, 2, 1], labels=int32[16])": DATASET.train,
    "Dataset(name='arrays', train=Split(images=uint8[16, 3, 2, 1], labels=int32[16]), "
    "validation=Split(images=uint8[2, 3, 2, 1], labels=int32[2]), "
    "test=Split(images=uint8[2, 3, 2, 1], labels=int32[2]), num_classes=2, "
    f"scale={1 / 255}, class_names=(), notes=(), rescaling=None, overlap=None, left_out=())": DATASET,
}


@pytest.mark.parametrize("line", SHOWN, ids=lambda line: line.partition("(")[0])
def test_a_value_with_arrays_is_one_line_of_types_and_shapes(line):
    assert repr(SHOWN[line]) == line
    assert str(SHOWN[line]) == line


@pytest.mark.parametrize("line", SHOWN, ids=lambda line: line.partition("(")[0])
def test_a_notebook_gets_a_row_a_field(line):
    value = SHOWN[line]
    table = value._repr_html_()
    names = getattr(value, "_fields", None) or [
        field.name for field in dataclasses.fields(value) if field.repr
    ]
    assert table.startswith("<table>")
    assert table.count("<tr>") == len(names)
    assert all(f">{name}</th>" in table for name in names)


def test_of_many_values_the_first_are_shown():
    assert brief(tuple(range(20))).endswith("18, 19)")
    assert brief(tuple(range(30))).endswith(" 18, 19, and 10 more)")
    assert brief(tuple(range(2020))).endswith(", and 2,000 more)")


def test_what_is_traced_or_mapped_shows_itself_too():
    seen = []
    jax.jit(lambda votes: seen.append(repr(votes)))(DENSE)
    jax.vmap(lambda votes: seen.append(repr(votes)))(DENSE)
    assert seen == [
        "DenseVotes(array=float32[2, 3, 4, 5])",
        "DenseVotes(array=float32[3, 4, 5])",
    ]


def test_axes_that_stand_for_arrays_show_themselves(as_installed):
    assert repr(cj.LinearVotes(0, None)) == "LinearVotes(u=0, W=None)"
    assert repr(object.__new__(cj.DenseVotes)) == "DenseVotes()"  # as a debugger may meet it


def test_names_from_outside_are_no_markup():
    dataset = dataclasses.replace(DATASET, name="<script>")
    assert "<script>" not in dataset._repr_html_()


CLASSES = (
    *(Adam, CapsNetConfig, CompareConfig, Constant, Cosine, DecoderConfig, Digits, Exponential),
    *(MarginLoss, Mnist, Arrays, Piecewise, PrimaryConfig, ConvConfig, TrainingConfig),
)
NAMES = {cls.__name__: cls for cls in CLASSES} | {name: getattr(cj, name) for name in cj.__all__}


@pytest.mark.parametrize("name", ["digits", "smoke", "mnist_small", "mnist_sabour2017"])
def test_a_configuration_is_one_short_line_that_makes_it_again(name):
    config = cj.load_config(name)
    assert eval(repr(config), NAMES) == config
    assert "\n" not in repr(config)
    assert "beta1" not in repr(config)  # a default
    assert "num_iters: 3" in config._repr_html_()
