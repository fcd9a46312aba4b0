"""What `comparison.json` says, checked: a report reads a file that anyone may have changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsjax.checks import UserError
from capsjax.runs.directory import brief, is_count, read_json
from capsjax.runs.metrics_file import is_finite
from capsjax.study.outcomes import unpack

# What comparisons did not write from the first on.
SINCE = ("beginning", "test_loss", "test_wrong")


def read_comparison_file(folder: Path) -> dict[str, Any]:
    """Read what a comparison found.

    Returns:
        What `comparison.json` says: `modes`, the names of its arms, `seeds`, `iterations`, `test_error` and
        `cost` by arm, the records of `alignment`, and, where it was written since then, `reference`,
        `beginning`, `test_loss` and `test_wrong`.

    Raises:
        UserError: If there is no such file, or it does not say all that was written into it.
    """
    path = folder / "comparison.json"
    found = read_json(path)

    def numbers(values: Any, count: int | None = None) -> bool:
        right = isinstance(values, list) and (count is None or len(values) == count)
        return (
            right and len(values) > 0 and all(value is None or is_finite(value) for value in values)
        )

    def of_every_mode(values: Any, is_right: Callable[[Any], bool], but: Any = ()) -> bool:
        return isinstance(values, dict) and all(
            is_right(values.get(mode)) for mode in found["modes"] if mode not in but
        )

    def is_wrong(of: Any) -> bool:
        texts = of.get("wrong") if isinstance(of, dict) else None
        if not isinstance(texts, list) or len(texts) != len(found["seeds"]):
            return False
        return all(text is None or _is_packed(text, of.get("images")) for text in texts)

    def lost() -> list[str]:
        """Name the arms of which every run failed, so that there was nothing to time."""
        return [m for m, values in found["test_error"].items() if set(values) == {None}]

    def is_cost(cost: Any) -> bool:
        right = isinstance(cost, dict) and numbers(cost.get("seconds"))
        return right and all(map(is_finite, cost["seconds"])) and is_finite(cost.get("temp_bytes"))

    def is_record(record: Any) -> bool:
        words, counts = ("mode", "group"), ("seed", "epoch")
        return (
            isinstance(record, dict)
            and all(isinstance(record.get(name), str) for name in words)
            and all(is_count(record.get(name), low=0) for name in counts)
            and numbers([record.get("cosine", ""), record.get("norm_ratio", "")])
        )

    wanted: dict[str, Callable[[Any], bool]] = {
        "modes": lambda modes: (
            isinstance(modes, list)
            and all(isinstance(mode, str) for mode in modes)
            and ("full" in modes or ("reference" in found and len(modes) > 0))
        ),
        "seeds": lambda seeds: numbers(seeds) and all(is_count(seed, low=0) for seed in seeds),
        "iterations": is_count,
        "test_error": lambda errors: of_every_mode(
            errors, lambda values: numbers(values, len(found["seeds"]))
        ),
        "test_loss": lambda losses: of_every_mode(
            losses, lambda values: numbers(values, len(found["seeds"]))
        ),
        "test_wrong": lambda arms: isinstance(arms, dict) and all(map(is_wrong, arms.values())),
        "cost": lambda costs: of_every_mode(costs, is_cost, but=lost()),
        "alignment": lambda records: isinstance(records, list) and all(map(is_record, records)),
        "beginning": lambda value: (
            isinstance(value, dict) and all(map(_is_beginning, value.values()))
        ),
    }
    # In this order: later checks go by what earlier ones have found to be right, such as the names of arms.
    for name, is_right in wanted.items():
        value = found.get(name) if isinstance(found, dict) else None
        there = name not in SINCE or (isinstance(found, dict) and name in found)
        if there and not is_right(value):
            raise UserError(
                f"{path}: {name}: got {brief(value)}, expected what a comparison writes there; run the "
                "comparison again"
            )
    return found


def _is_packed(text: Any, images: Any) -> bool:
    if not isinstance(text, str) or not is_count(images):
        return False
    try:
        return len(unpack(text, images)) == images
    except ValueError:
        return False


def _is_beginning(value: Any) -> bool:
    """Return whether a comparison may have written of an arm that it begins otherwise than the others."""
    groups = value.get("parameters") if isinstance(value, dict) else None
    named = isinstance(groups, list) and all(isinstance(group, str) for group in groups)
    return named and isinstance(value.get("batches"), bool)
