"""The report of a comparison that is not finished: which of its runs are, and how to resume it."""

from pathlib import Path

from capsjax.reports import page
from capsjax.reports.comparison import percent
from capsjax.reports.page import Page
from capsjax.runs.folder import Folder
from capsjax.study import arms
from capsjax.study.design import design
from capsjax.study.ledger import Entry, read_ledger
from capsjax.tables import Table


def report_unfinished(folder: Path) -> tuple[Path, list[Table]]:
    """Write `report.html` into the directory of a comparison that has no results yet.

    Args:
        folder: a comparison's directory.

    Returns:
        The HTML page, and its table: each run with its state and test error.

    Raises:
        UserError: If there is no configuration, or it cannot be read.
    """
    # Read from the directories of the runs alone: nothing is loaded, compiled or trained.
    whole = Folder(folder)
    config = whole.config
    entries = read_ledger(folder, config, design(config))
    rows = [
        (
            entry.trial.arm.name,
            str(entry.trial.seed),
            format_state(entry),
            "—" if entry.error is None else percent(entry.error),
        )
        for entry in entries
    ]
    done = sum(entry.state == "done" for entry in entries)
    table = Table(
        f"Unfinished comparison: {done} of {len(rows)} runs are finished",
        ("arm" if config.compare.arms else "mode", "seed", "state", "test error, %"),
        tuple(rows),
    )
    made = Page(
        title=f"{folder.name}: unfinished, {done} of {len(rows)} runs",
        lead=[
            f"{whole.data_name}, {arms.describe_routing(config)}.",
            f"This comparison is unfinished: {done} of {len(rows)} runs are. Resume it with: "
            f"{whole.how_to_resume()[1]}",
        ],
        tables=[table],
        reading=["Arms are compared when every seed of every arm has been trained, or has failed."],
        pictures=[],
        modes=list(dict.fromkeys(arms.mode_of(entry.trial.config) for entry in entries)),
        routings=[arms.routing_kind(config)],
        machine=page.machine_table([("", whole.environment)]),
        settings=[("", whole.settings)],
        files=["runs/"],
    )
    return page.write_page(folder / "report.html", made), [table]


def format_state(entry: Entry) -> str:
    """Say what became of a run, in a few words."""
    where = "no checkpoint" if entry.step is None else f"checkpoint of step {entry.step}"
    # Before the first checkpoint there is a directory, but nothing to resume from.
    begun = entry.step is not None or entry.trial.path.is_dir()
    return {
        "done": "finished",
        "failed": f"failed; {where}: {entry.why}",
        "running": f"running; {where}",
        "pending": f"stopped; {where}" if begun else "not begun",
    }[entry.state]
