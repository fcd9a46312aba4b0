"""From a configuration to the arms that a comparison trains: names, configurations, and who is compared."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from capsjax.checks import FieldError, UserError
from capsjax.gradients import GradientMode, TruncatedGradient
from capsjax.layers import map_routings, routing_keys
from capsjax.routing import DynamicRouting, IterativeRouting, Routing, UniformRouting
from capsjax.runs.config import Config
from capsjax.schema.fields import kinds_of
from capsjax.schema.text import to_tree
from capsjax.schema.tree import build

Cell = tuple[tuple[str, str], ...]  # axes of a grid with their values, in the words of a report


class Planned(NamedTuple):
    """Hold an arm that is to be trained.

    Attributes:
        name: what it is called, with its values of the grid, such as "stop, num_iters=2".
        arm: what it is called in every cell of the grid.
        cell: its values of those axes of the grid that it has.
        config: its configuration, of the first seed.
        changes: what it changes of the comparison's configuration: dotted keys and values.
    """

    name: str
    arm: str
    cell: Cell
    config: Config
    changes: Mapping[str, Any]

    def folder(self, seed: int) -> str:
        """Return the name of the directory of a run."""
        return run_folder(self.name, seed)


class Group(NamedTuple):
    """Hold arms that are compared with each other.

    Attributes:
        cell: the values of the grid that they share; empty without a grid.
        names: of the arms, in order.
        reference: the name of the one that the others are compared with.
    """

    cell: Cell
    names: tuple[str, ...]
    reference: str

    @property
    def label(self) -> str:
        """The cell in words."""
        return format_cell(self.cell)


class Design(NamedTuple):
    """Hold what a comparison trains and compares.

    Attributes:
        arms: every arm by its name, in the order of training.
        groups: arms that are compared, one group for each cell of the grid.
        reference: what the arm is called that the others are compared with, in every cell.
    """

    arms: dict[str, Planned]
    groups: tuple[Group, ...]
    reference: str

    @property
    def donor(self) -> Planned:
        """The arm whose initial parameters all begin with, as far as shapes allow."""
        return next(arm for arm in self.arms.values() if arm.arm == self.reference)


def routing_of(mode: str, routing: Routing, key: str = "model.routing") -> Routing:
    """Return the routing of a configuration with another gradient, or the uniform one.

    Args:
        mode: "uniform", or the kind of a gradient mode.
        routing: the configuration's; number of iterations and the rest of it stay.
        key: where it stands in the configuration, for the error.

    Returns:
        The routing.

    Raises:
        UserError: If the routing has no iterations to differentiate, so no gradient to choose, or refuses it.
    """
    if mode == "uniform":
        return UniformRouting()
    if not isinstance(routing, IterativeRouting):
        raise _no_iterations(routing, key, (mode,))
    if routing.num_iters < 2:
        raise UserError(
            f"got {key}.num_iters {routing.num_iters}, expected at least 2: the first "
            "coupling is uniform, and every gradient mode is the same"
        )
    gradient = gradient_named(mode)
    tolerance = getattr(routing, "tolerance", None)
    if tolerance is not None and gradient.differentiates_updates:
        raise UserError(
            f"got {key}.tolerance {tolerance} with mode {mode}, expected null: this mode "
            "goes back through every update and has to know how many there are"
        )
    try:
        return dataclasses.replace(routing, gradient=gradient)
    except FieldError as error:
        expected = f"modes that {key} can have: as its {error.field} {error.in_config}"
        raise FieldError("compare", "modes", mode, expected) from error


def _no_iterations(routing: Routing, key: str, modes: Iterable[str]) -> UserError:
    """Tell which kinds of routings have iterations, and a gradient of each mode."""
    known = [kind for kind in kinds_of(Routing) if _takes(kind, modes)]
    *others, last = known or [DynamicRouting.kind]  # no one kind has all modes
    return UserError(
        f"got a {type(routing).__name__}, expected an iterative routing, whose gradient "
        f"can be chosen: set {key}.kind to {', '.join(others)}{' or ' if others else ''}{last}"
    )


def _takes(kind: str, modes: Iterable[str]) -> bool:
    cls = kinds_of(Routing)[kind]
    # Normalised poses would ask for another head as well.
    if not issubclass(cls, IterativeRouting) or cls.activations == "none":
        return False
    try:
        return all(cls(gradient=gradient_named(mode)) for mode in modes)
    except FieldError:  # it has no adjoint, or no fixed point
        return False


def gradient_named(kind: str) -> GradientMode:
    """Return a gradient mode by its kind, with its defaults; truncated goes through the last update."""
    known = kinds_of(GradientMode)
    return TruncatedGradient(last=1) if kind == "truncated" else known[kind]()


def variant(config: Config, mode: str, seed: int) -> Config:
    """Return the configuration of one run of a comparison of modes; only routing and seed differ.

    Args:
        config: the comparison's configuration.
        mode: "uniform", or the kind of a gradient mode.
        seed: the run's seed.

    Returns:
        The run's configuration.

    Raises:
        UserError: If the routing has no iterations to differentiate.
    """
    keys = {routing: key for key, routing in routing_keys(config.model).items()}
    if not keys:
        raise UserError(
            f"compare.modes: got mode {mode} for a network of which no layer routes, expected "
            "compare.arms: what there is to compare"
        )
    if mode != "uniform" and not any(isinstance(one, IterativeRouting) for one in keys):
        routing, key = list(keys.items())[-1]
        modes = (one for one in (mode, *config.compare.modes) if one != "uniform")
        raise _no_iterations(routing, key, tuple(modes))

    def changed(routing: Routing) -> Routing:
        if not isinstance(routing, IterativeRouting):
            return routing
        return routing_of(mode, routing, keys.get(routing, "model.routing"))

    return dataclasses.replace(config, model=map_routings(config.model, changed), seed=seed)


def design(config: Config) -> Design:
    """Work out what a comparison trains: arms or modes, crossed with the grid.

    Args:
        config: the comparison's configuration.

    Returns:
        Arms, and who is compared with whom.

    Raises:
        UserError: If an arm or a value of the grid is no configuration; the error names its key below
            `compare`.
    """
    plain = dict(_plain_arms(config))  # the arms before the grid, by name
    cells = list(_cells(config.compare.grid))  # a single empty one without a grid
    # One arm and a grid: the cells are compared with each other, so they are the arms.
    alone = len(plain) == 1 and len(cells) > 1
    arms: dict[str, Planned] = {}
    members: list[tuple[Cell, list[str]]] = []
    for cell in cells:
        names = []
        for arm, (own, changes) in plain.items():
            mine = {key: value for key, value in cell.items() if _has(own, key, plain)}
            varied = _varied_in_grid(mine, config.compare.grid)
            name = ", ".join([arm, *([format_cell(varied)] if varied else [])])
            base, kept = (arm, varied) if not alone else (format_cell(varied), ())
            name = base if alone else name
            if name not in arms:  # an arm without a key of the grid is the same in several cells
                made = _set(own, "compare.grid", mine) if mine else own
                arms[name] = Planned(name, base, kept, made, {**changes, **mine})
            names.append(name)
        members.append((_varied_in_grid(cell, config.compare.grid), names))
    if alone:
        members = [((), names) for names in _by_data(arms)]
    _check_names(arms)
    reference = _reference(config, [planned.arm for planned in arms.values()])
    groups = tuple(
        Group(cell, tuple(names), next((n for n in names if arms[n].arm == reference), names[0]))
        for cell, names in members
    )
    return Design(arms, groups, reference)


def _by_data(arms: Mapping[str, Planned]) -> list[list[str]]:
    """Group arms by what they learn from, since errors on different data do not compare."""
    found: dict[Any, list[str]] = {}
    for name, arm in arms.items():
        found.setdefault(arm.config.data, []).append(name)
    return list(found.values())


def _plain_arms(config: Config) -> Iterator[tuple[str, tuple[Config, Mapping[str, Any]]]]:
    """Go through the arms without the grid: configuration, and what it changes."""
    for name, changes in config.compare.arms.items():
        yield name, (_set(config, f"compare.arms.{name}", changes), changes)
    if config.compare.arms:
        return
    for mode in config.compare.modes:
        end = "" if mode == "uniform" else ".gradient"
        keys = [k for k, r in routing_keys(config.model).items() if isinstance(r, IterativeRouting)]
        changes = {key + end: mode for key in keys}
        yield mode, (variant(config, mode, config.seed), changes)


def _set(config: Config, place: str, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with changes, as flags would make them; errors name the key below a place."""
    try:
        # As flags would change it, by the same engine: what an arm may say is what flags may.
        return build(Config, to_tree(config), source=place, overrides=changes)
    except UserError as error:
        text = str(error)
        if error.argument is None or not text.startswith(error.argument):
            raise
        key = f"{place}.{error.argument}"
        raise UserError(key + text.removeprefix(error.argument), argument=key) from error


def _cells(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Go through the combinations of a grid's values, the last axis fastest; one that is empty without."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _has(config: Config, key: str, plain: Mapping[str, tuple[Config, Any]]) -> bool:
    """Return whether an arm has a key of the grid; if no arm has it, all do, so that it is refused."""
    return _stands(config, key) or not any(_stands(other, key) for other, _ in plain.values())


def _stands(config: Config, key: str) -> bool:
    node: Any = to_tree(config)
    for step in key.split("."):
        if not isinstance(node, Mapping) or step not in node:
            return False
        node = node[step]
    return True


def _varied_in_grid(cell: Mapping[str, Any], grid: Mapping[str, tuple[Any, ...]]) -> Cell:
    """Say a cell in short words that tell its axes and values apart."""
    return tuple(
        (axis_name(key, grid), _value_names(grid[key])[value]) for key, value in cell.items()
    )


def axis_name(key: str, grid: Mapping[str, Any]) -> str:
    """Shorten a dotted key of a grid.

    Args:
        key: the key.
        grid: all keys, with their values.

    Returns:
        The shortest end that tells it from the others, such as "num_iters".
    """
    steps = key.split(".")
    ends = (".".join(steps[-count:]) for count in range(1, len(steps) + 1))
    return next(end for end in ends if sum(f".{k}".endswith(f".{end}") for k in grid) == 1)


def _value_names(values: tuple[Any, ...]) -> dict[Any, str]:
    """Write values in words that tell them apart: those of mappings by their kind, if that is enough."""
    short = {value: _written(value, short=True) for value in values}
    apart = len(set(short.values())) == len(short)
    return short if apart else {value: _written(value, short=False) for value in values}


def _written(value: Any, *, short: bool) -> str:
    if isinstance(value, Mapping):
        if short and isinstance(value.get("kind"), str):
            return value["kind"]
        return " ".join(f"{key}={_written(inner, short=short)}" for key, inner in value.items())
    if isinstance(value, tuple):
        return " ".join(_written(inner, short=short) for inner in value)
    return value if isinstance(value, str) else json.dumps(value)


def format_cell(cell: Cell) -> str:
    """Write a cell of a grid, such as "data=usps, num_iters=2"."""
    return ", ".join(f"{axis}={value}" for axis, value in cell)


def run_folder(name: str, seed: int) -> str:
    """Name the directory of a run.

    Args:
        name: of the arm.
        seed: of the run.

    Returns:
        Such as "stop-num_iters=2-seed3", with signs only that every file system takes.
    """
    return f"{_slug(name)}-seed{seed}"


def _slug(name: str) -> str:
    """Write the name of an arm as the name of a directory."""
    return re.sub(r"[^\w.=+]+", "-", name).strip("-.")


def _check_names(arms: Mapping[str, Planned]) -> None:
    """Check that the directories of all arms have names of their own, whatever the file system."""
    # In small letters: some file systems take `A` and `a` for one name.
    seen: dict[str, str] = {}
    for name in arms:
        other = seen.setdefault(_slug(name).lower(), name)
        if other != name:
            expected = f"names that stay apart as those of directories; it is like {other!r}"
            raise FieldError("compare", "arms", name, expected)


def _reference(config: Config, arms: list[str]) -> str:
    """Choose what the others are compared with."""
    wanted = config.compare.reference
    if wanted is None:
        return "full" if "full" in arms else arms[0]
    if wanted not in arms:
        expected = f"one of the arms: {', '.join(dict.fromkeys(arms))}"
        raise FieldError("compare", "reference", wanted, expected)
    return wanted
