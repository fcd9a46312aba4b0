"""The report of a comparison that is not finished: which of its runs are, and how to resume it."""

from pathlib import Path

from capsjax.reports import page
from capsjax.reports.comparison import percent
from capsjax.reports.page import Page
from capsjax.runs import directory
from capsjax.schema.text import dump
from capsjax.study import arms
from capsjax.study.compare import runs_of, tested
from capsjax.tables import Table
from capsjax.training import checkpoints


def report_unfinished(folder: Path) -> tuple[Path, list[Table]]:
    """Write `report.html` into the directory of a comparison that has no results yet.

    Args:
        folder: a comparison's directory.

    Returns:
        The HTML page, and its table: each run with its state and test error.

    Raises:
        UserError: If there is no configuration, or it cannot be read.
    """
    config, found = directory.read_config(folder), arms.environment_of(folder)
    runs, rows = runs_of(folder, config), []
    for (mode, seed), path in runs.items():
        line, steps = tested(path), checkpoints.steps(path / "checkpoints")
        state, error = "not begun", "—"
        if line is not None:
            state, error = "finished", percent(line["error"])
        elif path.is_dir():
            state = (
                f"stopped; checkpoint of step {steps[-1]}" if steps else "stopped; no checkpoint"
            )
        rows.append((mode, str(seed), state, error))
    done = sum(row[2] == "finished" for row in rows)
    table = Table(
        f"Unfinished comparison: {done} of {len(rows)} runs are finished",
        ("mode", "seed", "state", "test error, %"),
        tuple(rows),
    )
    made = Page(
        title=f"{folder.name}: unfinished, {done} of {len(rows)} runs",
        lead=[
            f"{arms.data_name(found)}, {arms.told_routing(config)}.",
            f"This comparison is unfinished: {done} of {len(rows)} runs are. Resume it with: "
            f"{directory.how_to_resume(folder, config)[1]}",
        ],
        tables=[table],
        reading=["Modes are compared when every seed of every mode is there."],
        pictures=[],
        modes=list(dict.fromkeys(mode for mode, _ in runs)),
        routings=[arms.routing_kind(config)],
        machine=page.machine_table([("", found)]),
        settings=[("", dump(config))],
        files=["runs/"],
    )
    return page.write_page(folder / "report.html", made), [table]
