"""`capsjax data`: the sets that others published."""

import argparse
import itertools
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capsjax.checks import UserError, nearest, printable
from capsjax.cli.steps import (
    data_at,
    names_configuration,
    no_flags,
    progress,
    read_overrides,
    show,
)


def data(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """List, download, check or show published sets.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the data; none for a list.

    Returns:
        0.

    Raises:
        UserError: If it is not said what to do, there is no such set, or its files are not what they
            should be.
    """
    tasks = {"list": _list, "fetch": _fetch, "verify": _verify, "show": _show}
    if arguments.task is None:
        given = f"{rest[0]!r}" if rest else "nothing"
        raise UserError(f"got {given}, expected what to do: {', '.join(tasks)}")
    if arguments.task == "list":
        no_flags(arguments, rest)
    tasks[arguments.task](arguments, rest)
    return 0


def _list(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from capsjax.data import published_sets
    from capsjax.tables import Table

    del arguments, rest
    rows = []
    for name, source in published_sets().items():
        known, found = source.published(), source.shape()
        height, width, channels = found.image_shape
        counts = " + ".join(f"{count:,} {part}" for part, count in source.examples().items())
        pixels = f"{height} x {width}" + (f" x {channels}" if channels > 1 else "")
        rows.append((name, counts, pixels, str(found.num_classes), known.licence, _where(source)))
    headings = ("name", "images", "pixels", "classes", "licence", "where")
    if sys.stdout.isatty():
        table = Table("Published sets", headings, tuple(rows))
        width = shutil.get_terminal_size().columns
        if len(table.within(width)) == 1:
            show([table])
            return
        # Parts of a table below each other would have to be read side by side.
        for name, *cells in rows:
            print(name)
            for heading, cell in zip(headings[1:], cells, strict=True):
                print(
                    textwrap.fill(
                        cell,
                        width,
                        initial_indent=f"  {heading:8} ",
                        subsequent_indent=" " * 11,
                        break_on_hyphens=False,
                    )
                )
        return
    for row in (headings, *rows):  # for `cut` and `grep`: a line for each set, however long
        print("\t".join(row))


def _where(source: Any) -> str:
    """Say where a set is."""
    from capsjax.data import PublishedFiles

    if not isinstance(source, PublishedFiles):
        return "comes with scikit-learn"
    missing, folder = source.missing(), source.place().folder
    if not missing:
        return printable(str(folder))
    # A set may need files of another, which are not its own.
    own = {file.names[0] for file in source.files().values()}
    few = "not there" if own <= {*missing} else f"{len(missing)} files missing"
    return f"{few}: capsjax data fetch {source.kind}"


def _fetch(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from capsjax.data import PublishedFiles

    source = _published(arguments, rest)
    if not isinstance(source, PublishedFiles):
        print(f"{source.kind}: comes with scikit-learn, nothing to download")
        return
    with progress(arguments, "preparing") as reporter:
        came = source.fetch(reporter.download)
    for path in came:
        print(f"downloaded: {printable(str(path))}")
    files, folder = len(source.files()), printable(str(source.place().folder))
    print(f"{source.kind}: {files} file{'s' if files > 1 else ''} as expected, in {folder}")


def _verify(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from capsjax.data import PublishedFiles

    source = _published(arguments, rest)
    if isinstance(source, PublishedFiles):
        for path, file in source.verify():
            told = f"{file.size} {file.unit}, SHA-256 {file.sha256}"
            print(f"{printable(Path(path).name)}: {told}: as expected")
    dataset = source.load()
    counts = {name: len(split) for name, split in dataset.splits().items()}
    total, expected = sum(counts.values()), sum(source.examples().values())
    if total != expected:
        raise UserError(f"{source.kind}: got {total} images, expected {expected}")
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{source.kind}: {total} images ({parts}), {dataset.num_classes} classes")


def _show(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    from capsjax.reports.examples import examples_figure, notes_on
    from capsjax.reports.figures import save

    source, name = _named(arguments, rest)
    out = arguments.out or Path(f"{name}.png")
    if arguments.out is None and out.exists():
        free = next(n for n in itertools.count(2) if not Path(f"{name}-{n}.png").exists())
        raise UserError(
            f"got no --out, and {out} exists, expected a new file: --out {name}-{free}.png"
        )
    if out.exists():
        raise UserError(f"out: got {str(out)!r}, which exists, expected a new file", argument="out")
    if out.suffix.lower() != ".png":
        raise UserError(f"out: got {str(out)!r}, expected a name that ends in .png", argument="out")
    with progress(arguments, "reading") as reporter:
        dataset = source.load(reporter.download)
    figure = examples_figure(dataset, arguments.split)
    save(figure, out)
    print(f"picture: {printable(str(out))}")
    for line in notes_on(dataset):
        print(line)


def _published(arguments: argparse.Namespace, rest: Sequence[str]) -> Any:
    """Return the published set that a command line names, with its fields as flags have them."""
    from capsjax.data import published_set

    published_set(arguments.set)  # says which there are
    return _named(arguments, rest)[0]


def _named(arguments: argparse.Namespace, rest: Sequence[str]) -> tuple[Any, str]:
    """Return the data that a command line names, and what their picture is called."""
    from capsjax.runs.config import load_config

    base, named = _beginning(arguments.set)
    source = load_config(base, named).data
    overrides = read_overrides(arguments, rest, of=type(source))
    for key in overrides:
        if not key.startswith("data."):
            got = f"{key}: got it beside {arguments.set}, expected fields of the data alone, --data.NAME"
            place = f"; other data stand in place of {arguments.set}" if key == "data" else ""
            raise UserError(got + place, argument=key)
    found = load_config(base, named | overrides).data
    return found, found.kind if "data" in named else Path(arguments.set).stem


def _beginning(given: str) -> tuple[str, dict[str, object]]:
    """Find the data that a word names: their configuration, and what differs from it."""
    from capsjax.data import Source
    from capsjax.runs.config import shipped_configs
    from capsjax.schema.fields import kinds_of
    from capsjax.schema.text import read_value

    kinds = kinds_of(Source)
    if given.lstrip().startswith("{"):  # fields, as --data takes them elsewhere
        fields = read_value(given, given)
        if not isinstance(fields, dict) or "kind" not in fields:
            raise UserError(
                f"data: got {given}, expected its kind among the fields, as in {{kind: usps}}"
            )
        return "smoke", {"data": fields}
    if given in kinds:
        return "smoke", {"data.kind": given}
    # Of a configuration its data; one that is not there is told as such.
    if names_configuration(given) or Path(given).suffix.lower() in (".yaml", ".yml"):
        return given, {}
    if named := data_at(given):
        return "smoke", named
    near = nearest(given, [*kinds, *shipped_configs()])
    got = f"data: got {given!r}, expected a path, a configuration or one of"
    raise UserError(f"{got} {', '.join(sorted(kinds))}{near}")
