"""`capsjax info`."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from capsjax.cli.steps import no_flags, read


def info(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print versions, devices and configurations; of one configuration all of it, and its parameters.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the configuration, if one is named.

    Returns:
        0.

    Raises:
        UserError: If the configuration or a flag does not fit.
    """
    from capsjax.runs import config, description

    if arguments.config is not None:
        return _describe(read(arguments, rest))
    no_flags(arguments, rest)
    found = description.environment()
    print(f"capsjax {found['capsjax']}, Python {found['python']}, {found['platform']}")
    print(", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    print("devices: " + ", ".join(found["devices"]))
    print(f"CAPSJAX_DATA: {os.environ.get('CAPSJAX_DATA') or 'not set'}")
    print("configurations:")
    for name, path in config.shipped_configs().items():
        print(f"  {name:18} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    return 0


def _describe(config: Any) -> int:
    """Print a configuration in full, and what its network makes of images as its data have.

    That is, for each layer, how many parameters it has and the shape of what comes out.
    """
    from capsjax.layers import shapes
    from capsjax.runs.plan import functions_of
    from capsjax.runs.served import check_served
    from capsjax.schema.text import dump
    from capsjax.training.state import group_of

    print(dump(config), end="")
    check_served(config)
    data = config.data.shape()
    made = functions_of(config, *data)
    steps = shapes(config.model, config.input_shape(data.image_shape), data.num_classes)
    after = {step.name: f"  {step.shape}" for step in steps}
    counts = dict.fromkeys(after, 0)
    for name, shape in made.shapes().items():
        counts[group_of(name)] = counts.get(group_of(name), 0) + shape.size
    print(f"\nparameters: {sum(counts.values()):,}")
    for group, count in counts.items():
        print(f"  {group:10} {count:>12,}{after.get(group, '')}")
    return 0
