"""Several runs and comparisons on one page: their curves over each other, and one table of results."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from capsjax.checks import UserError
from capsjax.reports import page
from capsjax.reports.comparison import percent, read_comparison
from capsjax.reports.comparison_panels import comparison_arms, comparison_runs
from capsjax.reports.page import Page
from capsjax.reports.panels import course_panels, tests_panel
from capsjax.runs import create
from capsjax.runs.folder import Folder
from capsjax.schema.text import to_tree
from capsjax.study import arms
from capsjax.study.arms import Arm, Lines
from capsjax.study.statistics import summarise
from capsjax.tables import Table, plain

READING = (
    "A run is an arm of one seed; a comparison gives one arm for each of its modes, and ± is the standard "
    "deviation over its seeds. Colours stand for modes; arms of one mode differ by their lines. Training "
    "errors are means over the last logged batches of a run, a tenth of its steps and at least five, on "
    "images as they are trained on."
)


class Entry(NamedTuple):
    """Hold what one directory brings.

    Attributes:
        name: what it is called.
        held: what it says.
        arms: of a run one, of a comparison one for each mode.
        errors: test errors of each arm, by its name, from 0 to 1; empty if none was tested.
        runs: mode, seed and lines of each run.
    """

    name: str
    held: Folder
    arms: list[Arm]
    errors: dict[str, list[float]]
    runs: list[tuple[str, int, Lines]]


def report_several(folders: Sequence[Path], out: Path | None = None) -> tuple[Path, list[Table]]:
    """Write one page on several runs and comparisons.

    `report.html` and `report.md`; in `figures` each figure as SVG, PDF and PNG, in `tables` each table as
    CSV and LaTeX; and `metrics.csv`.

    Args:
        folders: directories of runs or comparisons.
        out: a new directory for the page; None for `runs/report-<UTC time>`.

    Returns:
        The HTML page, and its tables.

    Raises:
        UserError: If there are not two different directories, one of them holds neither, or `out` exists.
    """
    # One directory by two paths, such as through a link, is one.
    different = list({folder.resolve(): folder for folder in folders}.values())
    if len(different) < 2:
        raise UserError(
            f"got {len(different)} different directories, expected at least two to set side by side"
        )
    entries = [
        _read(folder, name) for folder, name in zip(different, _names(different), strict=True)
    ]
    drawn = [arm for entry in entries for arm in entry.arms]
    errors = {
        arm.label: (arm.mode, entry.errors[name])
        for entry in entries
        for name, arm in _tested(entry)
    }
    shown = [_results(entries)]
    differences = _differences(entries)
    out = create.create(out, "report")
    # The bound of the entropy is log J: with different J there is none to draw.
    classes = {Folder(folder).num_classes for folder in different}
    panels = course_panels(drawn, classes.pop() if len(classes) == 1 else None)
    if errors:
        # Not paired: runs of different directories need not share a seed's beginning.
        panels.insert(0, tests_panel(errors, paired=False))
    reading = [READING, *_cautions(entries)]
    page.write_tables({"results": shown[0], "differences": differences}, out / "tables")
    page.write_metrics(
        out / "metrics.csv",
        [
            ({"run": entry.name, "mode": mode, "seed": seed}, lines)
            for entry in entries
            for mode, seed, lines in entry.runs
        ],
    )
    descriptions = [table.to_markdown() for table in (*shown, differences) if table.rows]
    title = f"{' and '.join(entry.name for entry in entries)} side by side"
    if len(entries) > 3:
        title = f"{len(entries)} runs side by side"
    text = "\n".join([f"# {plain(title)}\n", *descriptions, *(f"{words}\n" for words in reading)])
    (out / "report.md").write_text(text, encoding="utf-8")
    made = Page(
        title=title,
        lead=[", ".join(str(folder) for folder in different)],
        tables=shown,
        reading=reading,
        pictures=page.draw_panels(panels, out / "figures"),
        modes=[arm.mode for arm in drawn],
        routings=[arm.routing for arm in drawn],
        iterates=any(arms.iterations(entry.held.config) for entry in entries),
        machine=page.machine_table([(entry.name, entry.held.environment) for entry in entries]),
        settings=[(entry.name, entry.held.settings) for entry in entries],
        files=["report.md", "figures/ (SVG, PDF, PNG)", "tables/ (CSV, LaTeX)", "metrics.csv"],
        differences=differences,
    )
    return page.write_page(out / "report.html", made), shown


def _names(folders: Sequence[Path]) -> list[str]:
    """Call directories by their own names, with as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    # As much of the ends of the paths as tells them apart: figures have no room for more.
    for length in range(1, max(map(len, parts)) + 1):
        short = ["/".join(path[-length:]) for path in parts]
        if len(set(short)) == len(short):
            return short
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> Entry:
    held = Folder(folder)
    if held.is_finished_comparison:
        found = read_comparison(folder)
        runs = comparison_runs(found, folder)
        of_modes = comparison_arms(found, runs)
        return Entry(
            name,
            held,
            [
                arm._replace(
                    name=f"{name}, {arm.name}",
                    mode=found.arms[arm.name].mode,
                    routing=found.arms[arm.name].routing,
                )
                for arm in of_modes
            ],
            {
                f"{name}, {mode}": [e for e in found.errors[mode] if not math.isnan(e)]
                for mode in found.modes
            },
            [(mode, seed, lines) for (mode, seed), lines in runs.items()],
        )
    config, lines = held.config, held.metrics
    mode = arms.mode_of(config)
    tested = arms.values(lines, "test", "error")[1].tolist()[-1:]
    runs = (lines,) if lines else ()
    arm = Arm(name, mode, runs, arms.routing_kind(config))
    return Entry(name, held, [arm], {name: tested}, [(mode, config.seed, lines)])


def _tested(entry: Entry) -> list[tuple[str, Arm]]:
    return [(arm.name, arm) for arm in entry.arms if entry.errors[arm.name]]


def _results(entries: Sequence[Entry]) -> Table:
    rows = []
    for entry in entries:
        rounds = arms.iterations(entry.held.config)
        for arm in entry.arms:
            trained = [arms.recent_training(lines) for lines in arm.runs]
            validated = [arms.values(lines, "validation", "error")[1][-1:] for lines in arm.runs]
            steps = sorted({max(line["step"] for line in lines) for lines in arm.runs})
            tested = entry.errors[arm.name]
            still = not rounds or arm.mode == "uniform"
            rows.append(
                (
                    arm.name,
                    arm.routing,
                    *(("—", "—") if still else (arm.mode, rounds)),
                    entry.held.data_name,
                    str(max(len(arm.runs), len(tested))),
                    " to ".join(str(step) for step in dict.fromkeys((*steps[:1], *steps[-1:])))
                    or "—",
                    _share([found.error for found in trained if found is not None]),
                    _share([float(x) for last in validated for x in last]),
                    _share(tested),
                )
            )
    headings = ("run", "routing", "mode", "r", "data", "seeds", "steps")
    errors = tuple(f"{split} error, %" for split in ("train", "validation", "test"))
    return Table("Last errors of every arm", (*headings, *errors), tuple(rows))


def _share(errors: Sequence[float]) -> str:
    if not errors:
        return "—"
    found = summarise(errors)
    spread = f" ± {percent(found.sd)}" if len(errors) > 1 else ""
    return percent(found.mean) + spread


def _cautions(entries: Sequence[Entry]) -> list[str]:
    """Say what keeps the numbers from being compared as they stand."""
    found = []
    data = [entry.held.environment.get("data") for entry in entries]
    # By what the data are, not by their name: one name may stand for two files.
    prints = {x.get("fingerprint") for x in data if isinstance(x, Mapping)}
    if len(prints) > 1:
        found.append("The data differ: their errors do not compare.")
    untested = [entry.name for entry in entries for name, e in entry.errors.items() if not e]
    if untested:
        found.append(f"Not finished, so without a test: {', '.join(dict.fromkeys(untested))}.")
    return found


def _differences(entries: Sequence[Entry]) -> Table:
    """Make the table of the settings that are not the same everywhere."""
    trees = [_flat(to_tree(entry.held.config)) for entry in entries]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    rows = [(key, *(tree.get(key, "—") for tree in trees)) for key in keys]
    # A setting that one of them lacks differs too.
    kept = tuple(row for row in rows if len(set(row[1:])) > 1)
    return Table("What sets them apart", ("setting", *(entry.name for entry in entries)), kept)


def _flat(tree: Any, before: str = "") -> dict[str, str]:
    """Map the dotted name of every setting to its value, as text."""
    if not isinstance(tree, Mapping):
        return {before: json.dumps(tree) if isinstance(tree, bool | None) else str(tree)}
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{before}.{key}" if before else str(key))
    return found
