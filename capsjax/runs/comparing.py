"""What a comparison compares: arms, a grid that crosses with them, and seeds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from capsjax.checks import FieldError, check_float, check_int, check_type, nearest
from capsjax.gradients import GradientMode
from capsjax.schema.fields import kinds_of
from capsjax.schema.named import Named

LONGEST_NAME = 60  # of an arm, which names directories
OF_ALL = ("compare", "seed")  # what the arms of a comparison have in common


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Describe a comparison: every arm is trained with every seed.

    Args:
        modes: the short form of arms that differ in the gradient of the routing alone: "uniform" coupling,
            and kinds of gradient modes such as "stop", "truncated" (through the last update only) and
            "full".
        arms: arms by name, each with what it changes of the configuration: dotted keys and their values, as
            flags would say, or mappings; `{}` changes nothing. Where there are some, `modes` is not used.
        reference: the arm that the others are compared with; None for "full" where there is an arm of
            that name, else for the first.
        grid: dotted keys, each with a list of values: an arm is trained with every value of every key that
            it has. Where there is one arm only, the combinations of values are the arms.
        seeds: how many seeds each arm is trained with, counting up from the run's seed.
        gradient_points: at how many points of training the stop gradient is compared with the full one,
            where arms differ in the gradient mode alone.
        timing_rounds: rounds of the interleaved pass that times a step of each arm.
        margin: how large a difference of test errors counts as none, in percentage points; None where nothing
            is to be shown equal. It has to be stated before the runs, and stays when more are added.

    Raises:
        FieldError: If a mode, an arm, the grid or a count is not as it should be.

    Example:
        >>> CompareConfig(arms={"held": {"model.routing.gradient": "stop"}, "live": {}}).arms["held"]
        {'model.routing.gradient': 'stop'}
    """

    modes: tuple[str, ...] = ("uniform", "stop", "truncated", "full")
    arms: Mapping[str, Any] = Named({})
    reference: str | None = None
    grid: Mapping[str, Any] = Named({})
    seeds: int = 3
    gradient_points: int = 4
    timing_rounds: int = 15
    margin: float | None = None

    def __post_init__(self):
        check_int(self, "seeds", low=1)
        check_int(self, "gradient_points", low=2)
        check_int(self, "timing_rounds", low=3)
        if self.margin is not None:
            check_float(self, "margin", low=0, open_low=True, high=100)
        self._check_modes()
        check_type(self, "arms", Mapping, "a mapping from names to what each arm changes")
        check_type(self, "grid", Mapping, "a mapping from keys to lists of values")
        object.__setattr__(self, "arms", Named({n: _arm(n, v) for n, v in self.arms.items()}))
        object.__setattr__(self, "grid", Named(flat(self.grid)))
        for key, values in self.grid.items():
            _check_key(f"grid.{key}", key, values)
            if not isinstance(values, tuple) or not values or len(set(values)) < len(values):
                expected = "a tuple of different values"
                given = list(values) if isinstance(values, tuple) else values
                raise FieldError(
                    "CompareConfig", f"grid.{key}", given, expected, "a list of different values"
                )

    def _check_modes(self) -> None:
        known = ("uniform", *kinds_of(GradientMode))
        modes = self.modes if isinstance(self.modes, tuple) else ()
        fit = modes and len(set(modes)) == len(modes) and set(modes) <= set(known)
        if fit and (self.arms or self.reference in modes or "full" in modes):
            return
        for mode in modes:
            if mode not in known:
                expected = f"one of {', '.join(known)}{nearest(str(mode), known)}"
                raise FieldError("CompareConfig", "modes", mode, expected)
        expected = (
            f"different modes of {', '.join(known)}, full among them: the others are compared with it, "
            "unless compare.reference names another"
        )
        in_config = f"a list of {expected}"
        raise FieldError("CompareConfig", "modes", self.modes, f"a tuple of {expected}", in_config)


def _arm(name: str, changes: Any) -> Named[Any]:
    """Check an arm; None, as an empty key of a file gives it, changes nothing."""
    usable = name.isprintable() and name == name.strip() and 0 < len(name) <= LONGEST_NAME
    if not usable or not any(map(str.isalnum, name)) or "/" in name or "\\" in name:
        expected = f"names of up to {LONGEST_NAME} characters, with a letter or digit and no slash"
        raise FieldError("CompareConfig", "arms", name, expected)
    if not isinstance(changes, Mapping | None):
        expected = "a mapping of dotted keys to values, such as {model.routing.gradient: stop}"
        raise FieldError("CompareConfig", f"arms.{name}", changes, expected)
    found = flat(changes or {})
    for key, value in found.items():
        _check_key(f"arms.{name}.{key}", key, value)
    return Named(found)


def _check_key(place: str, key: str, value: Any) -> None:
    """Check that a key of the configuration may differ between the arms of a comparison."""
    outer = key.split(".")[0]
    if outer in OF_ALL or not all(key.split(".")):
        expected = "a key that may differ between arms, such as model.routing.gradient; not seed or compare"
        raise FieldError("CompareConfig", place, value, expected)


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Write nested mappings with dotted keys: `{training: {epochs: 3}}` is `training.epochs: 3`.

    Args:
        tree: plain values, with dotted keys, mappings, or both.
        before: what each key begins with.

    Returns:
        Dotted key to value, lists as tuples; of two that are the same the later one counts.
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{before}.{key}" if before else str(key)
        inner = isinstance(value, Mapping) and value
        found |= flat(value, path) if inner else {path: _frozen(value)}
    return found


def _frozen(value: Any) -> Any:
    """Return plain values such that they cannot change."""
    # Hashable all through: a configuration is the key of what is compiled for it.
    if isinstance(value, Mapping):
        return Named({key: _frozen(inner) for key, inner in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
