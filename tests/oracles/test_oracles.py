"""The oracles against each other: their gradients by hand are those of their forward passes."""

import ast
import pathlib

import numpy as np
import pytest

from tests.oracles import numerics, routing

RNG = np.random.RandomState(7)
U, W, BIAS = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(3, 2, 2, 3)), RNG.normal(size=(2, 3))
BARS = routing.Result(
    RNG.normal(size=(2, 2, 3)),
    RNG.normal(size=(2, 3, 2)),
    RNG.normal(size=(2, 3, 2)),
    RNG.normal(size=(2, 2)),
)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("last", [0, 1, 2])
def test_the_reverse_recursion_is_the_gradient_of_the_frozen_function(last, leaky):
    live = routing.dynamic_frozen(U, W, BIAS, last=last, leaky=leaky)

    def total(u, W, bias):
        return sum(np.sum(bar * leaf) for bar, leaf in zip(BARS, live(u, W, bias), strict=True))

    expected = routing.finite_differences(total, (U, W, BIAS))
    found = routing.dynamic_gradient(U, W, BIAS, BARS, last=last, leaky=leaky)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_the_closed_form_is_the_recursion_without_live_updates():
    bars = BARS._replace(activation=np.zeros((2, 2)))
    closed = routing.stopped_gradient(U, W, BIAS, bars.pose)
    for one, other in zip(closed, routing.dynamic_gradient(U, W, BIAS, bars, last=0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_the_jacobian_of_squash_is_that_of_squash():
    s = np.array([0.3, -1.2, 0.7])
    for a, row in enumerate(numerics.squash_jacobian(s)):
        (expected,) = routing.finite_differences(lambda s, a=a: numerics.squash(s)[a], (s,))
        np.testing.assert_allclose(row, expected, rtol=1e-8)


def test_no_oracle_imports_what_it_judges():
    for file in pathlib.Path(__file__).parent.glob("*.py"):
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert names <= {
            "ast",
            "contextlib",
            "math",
            "numpy",
            "pathlib",
            "pytest",
            "tests",
            "typing",
        }, file
