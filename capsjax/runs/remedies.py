"""What to change in a configuration whose training does not stay finite."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capsjax.checks import UserError
from capsjax.gradients import ImplicitGradient
from capsjax.layers import Model, routing_keys
from capsjax.routing import Routing
from capsjax.runs import advice
from capsjax.runs.config import Config
from capsjax.training.state import TrainState

RATE = "optimiser.schedule.rate"
USUAL_RATE = 1e-3
# A number so many times its default, or so small a part of it, is looked at before the learning rate.
FAR_ABOVE, FAR_BELOW = 1e4, 1e-10


def changes(config: Any, prefix: str = "") -> dict[str, float]:
    """Suggest other numbers where training did not stay finite.

    A learning rate is not the cause where a weight of 3e38 makes the first loss infinite, or an epsilon of
    1e-45 divides by zero: what is far from its default goes back to it. Else the rate is lowered, to a tenth
    and at most to the usual one.

    Args:
        config: a configuration, or a mapping of its parts by name.
        prefix: what the dotted keys begin with.

    Returns:
        Dotted key to number.
    """
    numbers = list(_numbers(config, prefix))
    far = {key: default for key, value, default in numbers if _is_far(value, default)}
    rates = {key: min(USUAL_RATE, value / 10) for key, value, _ in numbers if key == RATE}
    return far or rates


def remedy(model: Model, loss: Any, optimiser: Any) -> str:
    """Say what to change where the loss or a parameter of a run is not finite.

    Args:
        model: the configuration's network.
        loss: its loss.
        optimiser: its optimiser.

    Returns:
        The end of a message: which keys to set to what.
    """
    parts = {"model": model, "loss": loss, "optimiser": optimiser}
    suggested = changes(parts)
    now = {key: value for key, value, _ in _numbers(parts)}
    texts = [f"set {key} to {value:g} instead of {now[key]:g}" for key, value in suggested.items()]
    advice = " and ".join(texts)
    key = next((key for key, used in routing_keys(model).items() if _is_implicit(used)), None)
    if key is None:
        return advice
    return (
        "an implicit gradient is NaN where routing has not converged or the solver has not ended: set "
        f"{key}.tolerance to 1e-5, {key}.num_iters to 1000 and "
        f"{key}.gradient.max_steps to 1000; or {advice}"
    )


def check_finite(folder: Path, config: Config, state: TrainState) -> None:
    """Refuse to resume from parameters that are not finite: more steps cannot repair them.

    Args:
        folder: the run's directory.
        config: what was run.
        state: its newest checkpoint.

    Raises:
        UserError: If a parameter holds NaN or infinity; its advice trains anew, elsewhere.
    """
    params = jax.device_get(state.variables)
    names = [name for name, value in params.items() if not np.isfinite(value).all()]
    if not names:
        return
    call, command = advice.how_to_train_anew(folder, config, changes(config))
    got = (
        f"{folder}: got parameters that are not finite ({', '.join(names)}) in the checkpoint of step "
        f"{int(state.step)}, expected finite ones, which no further step brings back; train anew: "
    )
    raise UserError(got + call, on_command_line=got + command)


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float, float]]:
    """Go through the fields of a configuration that are floats by default: key, value, default."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, f"{prefix}{name}.")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner, key = getattr(value, field.name), f"{prefix}{field.name}"
            if dataclasses.is_dataclass(inner) or isinstance(inner, Mapping):
                yield from _numbers(inner, f"{key}.")
            elif isinstance(field.default, float) and isinstance(inner, int | float):
                yield key, inner, field.default


def _is_implicit(routing: Routing) -> bool:
    return isinstance(getattr(routing, "gradient", None), ImplicitGradient)


def _is_far(value: float, default: float) -> bool:
    largest = max(abs(default), USUAL_RATE)
    return abs(value) > FAR_ABOVE * largest or 0 < abs(value) < FAR_BELOW * abs(default)
