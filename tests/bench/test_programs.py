"""What the compiler makes of a step, counted: slower programs are noticed without a clock."""

import functools
import re

import jax
import jaxlib
import pytest

from capsjax.bench import routing, step
from capsjax.gradients import ClosedForm, StopGradient
from capsjax.runs.config import load_config

# Of the step of `digits`, on four CPU devices, by the version of jaxlib. Where a change is meant to do more,
# or `constraints.txt` another version, write down what the failing test says that it found.
RECORDED = {
    "0.10.2": {
        "fusions": 288,
        "flops": 34_350_428,
        "transcendentals": 111_467,
        "bytes accessed": 16_479_451,
        "temporary bytes": 1_779_176,
    }
}
MARGIN, MARGIN_ELSEWHERE = 0.03, 0.25
SMALL = routing.RoutingSizes(batch=4, children=6, parents=3, in_dim=2, out_dim=5, num_iters=2)


@pytest.fixture
def counts(monkeypatch, full_optimisation):
    """Compile work as for users; return what it costs by the compiler's own account."""
    programs = []
    compile_it = functools.partial(jax.stages.Lowered.compile, compiler_options=full_optimisation)

    def watched(self):
        programs.append(compile_it(self))
        return programs[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", watched)

    def count(work):
        work()
        program = programs[-1]
        cost = program.cost_analysis()
        return {
            "fusions": len(re.findall(r" fusion\(", program.as_text())),
            "flops": cost["flops"],
            "transcendentals": cost["transcendentals"],
            "bytes accessed": cost["bytes accessed"],
            "temporary bytes": program.memory_analysis().temp_size_in_bytes,
        }

    return count


def test_the_step_of_digits_takes_what_it_took(counts):
    if jax.default_backend() != "cpu":
        pytest.skip("the counts are of programs for CPUs: JAX_PLATFORMS=cpu")
    found = counts(lambda: step.step_work(load_config("digits")))
    version = jaxlib.__version__
    recorded = RECORDED.get(version, RECORDED["0.10.2"])
    margin = MARGIN if version in RECORDED else MARGIN_ELSEWHERE
    assert found == pytest.approx(recorded, rel=margin), f"jaxlib {version}: {found}"


@pytest.mark.parametrize("votes", ["linear", "dense"])
def test_the_closed_form_has_no_softmax_for_the_first_coupling(votes, counts):
    """It is known: with one update, only the last coupling is a softmax."""

    def routed(gradient):
        return counts(lambda: routing.routing_work(SMALL, gradient=gradient, votes=votes))

    closed, stop = routed(ClosedForm()), routed(StopGradient())
    assert closed["transcendentals"] < stop["transcendentals"]
