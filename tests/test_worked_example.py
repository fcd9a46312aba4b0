"""The chapter's worked example says what the oracles compute, and JAX's gradients agree."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from tests.oracles import worked_example as example

PAGE = Path(__file__).resolve().parents[1] / "docs" / "backpropagation.md"
ROW = re.compile(r"^\| \$(?P<symbol>[^$]+)\$ \|.*\| (?P<value>[-−(][^|]*|\d[^|]*) \|$", re.M)
NUMBER = re.compile(r"[-−]?\d+\.\d+")


def written():
    """Every symbol of the page's tables, with its numbers."""
    section = PAGE.read_text("utf-8").split("\n## A worked example")[1].split("\n## ")[0]
    rows = [
        (match["symbol"], [float(x.replace("−", "-")) for x in NUMBER.findall(match["value"])])
        for match in ROW.finditer(section)
    ]
    assert len(dict(rows)) == len(rows), "a symbol has two rows"
    return dict(rows)


def test_every_number_is_on_the_page_and_right():
    computed = example.numbers()
    found = written()
    assert set(found) == set(computed)
    for symbol, values in computed.items():
        assert len(found[symbol]) == values.size, symbol
        np.testing.assert_allclose(found[symbol], values, atol=5.001e-5, err_msg=symbol)


def test_the_poses_and_matrices_are_those_of_the_page():
    text = PAGE.read_text("utf-8")
    found = re.findall(r"([uW])_\{?(\d+)\}? = \\begin\{pmatrix\}(.*?)\\end\{pmatrix\}", text)
    assert len(found) == 6
    for letter, place, entries in found:
        values = [float(x) for x in re.split(r"&|\\\\", entries)]
        i, *j = (int(digit) - 1 for digit in place)
        expected = example.U[0, i] if letter == "u" else example.W[i, j[0]].T.ravel()
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (cj.StopGradient(), "stop"),
        (cj.FullGradient(), "full"),
        (cj.ClosedForm(), "full"),
        (cj.TruncatedGradient(last=1), "full"),
    ],
)
@pytest.mark.parametrize("dense", [False, True])
def test_jax_has_the_same_gradients(mode, name, dense, x64):
    def loss(u, W):
        votes = cj.predict(u, W)
        votes = votes.dense() if dense else votes
        pose = cj.dynamic_routing(votes, num_iters=2, gradient=mode).pose
        return jnp.sum(pose * example.POSE_BAR)

    value, (u_bar, W_bar) = jax.value_and_grad(loss, argnums=(0, 1))(
        jnp.asarray(example.U), jnp.asarray(example.W)
    )
    numbers = example.numbers()
    np.testing.assert_allclose(value, numbers["L"][0], rtol=1e-13)
    for i in range(2):
        expected = numbers[rf"\bar u^\text{{{name}}}_{i + 1}"]
        np.testing.assert_allclose(u_bar[0, i], expected, rtol=1e-12)
        for j in range(2):
            expected = numbers[rf"\bar W^\text{{{name}}}_{{{i + 1}{j + 1}}}"].reshape(2, 2)
            np.testing.assert_allclose(W_bar[i, j], expected.T, rtol=1e-12, atol=1e-15)


def test_the_text_quotes_the_tables():
    """The vote whose gradient changes its sign, and what the printed gradients are."""
    text = PAGE.read_text("utf-8")
    numbers = example.numbers()
    stop, full = (numbers[rf"\bar z^\text{{{name}}}_{{12}}"][0] for name in ("stop", "full"))
    assert f"is {stop:.4f} with the coupling held constant and −{-full:.4f} without" in " ".join(
        text.split()
    )
    gain = numbers[r"\bar c^1_1"]
    assert f"more ({gain[0]:.4f}) and parent 2 less (−{-gain[1]:.4f})" in " ".join(text.split())
    for name in ("stop", "full"):
        rows = [numbers[rf"\bar u^\text{{{name}}}_{i}"] for i in (1, 2)]
        shown = ", ".join("[" + ", ".join(f"{x:.4f}" for x in row) + "]" for row in rows)
        assert f"{name} = jnp.array([{shown}])" in text
