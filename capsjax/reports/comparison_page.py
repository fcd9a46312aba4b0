"""The report of a comparison: one page from its directory alone; nothing is trained."""

from pathlib import Path

from capsjax.reports import evidence, evidence_tables, figures, page
from capsjax.reports.arm_confusions import confusion_panels
from capsjax.reports.comparison import (
    Comparison,
    alignment_table,
    arms_table,
    read_comparison,
    results_table,
)
from capsjax.reports.comparison_panels import comparison_panels, comparison_runs
from capsjax.reports.page import Page
from capsjax.reports.support import Supported, gather_support
from capsjax.reports.support_pictures import READING as SUPPORT
from capsjax.reports.support_pictures import support_pictures
from capsjax.routing import DynamicRouting
from capsjax.runs.folder import Folder
from capsjax.runs.metrics_file import last_line
from capsjax.study import arms
from capsjax.study.design import design, run_folder
from capsjax.study.ledger import read_entry, trials_of
from capsjax.study.observation import ALONE
from capsjax.tables import Table

READING = (
    "Every mode of a seed began with the same parameters and saw the same batches. Differences are "
    "paired by seed; with few seeds an interval that holds 0 shows no difference, and does not prove "
    "that there is none; one without width comes from equal differences, and is no certainty. Times "
    "come from one pass in which the modes took turns: medians, of shares with lower and upper quartile; "
    "memory is the compiler's figure for temporary arrays of one step."
)

# What there is beside a page to compute its numbers again.
RAW = {
    "comparison.json": "test errors, losses and wrong images, seed by seed, and times",
    "metrics.csv": "every line of every run",
    "gradients.csv": "stop gradient beside full, along training",
    "examples.csv": "the same of single examples",
    "couplings.csv": "couplings, iteration by iteration",
    "config.yaml": "the configuration",
    "environment.json": "machine and versions",
}


def report_comparison(folder: Path) -> tuple[Path, list[Table]]:
    """Write the report of a comparison into its directory.

    `report.html`, `report.md` and `comparison.png`; in `figures` each figure as SVG, PDF and PNG, in
    `tables` each table as CSV and LaTeX; and `metrics.csv`.

    Args:
        folder: a comparison's directory.

    Returns:
        The HTML page, and its tables of results; also what the arms change, unless they are modes alone.

    Raises:
        UserError: If the directory holds no finished comparison.
    """
    comparison = read_comparison(folder)
    held = Folder(folder)
    kind = arms.routing_kind(held.config)
    found, runs = evidence.gather(comparison), comparison_runs(comparison, folder)
    named = {
        "results": results_table(comparison, kind),
        "evidence": evidence_tables.difference_table(comparison, found),
        "evidence_showing": evidence_tables.showing_table(comparison, found),
        "alignment": alignment_table(comparison),
    }
    # Some comparisons have no gradients to align.
    named = {name: table for name, table in named.items() if table.rows}
    differences = arms_table(comparison)
    drawn = comparison_panels(comparison, folder, runs, found)
    confused = confusion_panels(comparison, folder, runs)
    figures.save(figures.together([*drawn, *confused]), folder / "comparison.png")
    evidence_reading = [evidence_tables.READING, *evidence_tables.describe_margin(comparison)]
    evidence_reading += evidence.describe_undefined(found)
    evidence_reading += describe_alignment(comparison)
    answered = evidence.answer(comparison, found)
    pictures = page.draw_panels(drawn, folder / "figures")
    looked = gather_support(comparison, folder)
    support = support_pictures(looked, class_names(held, looked), folder / "figures")
    page.write_tables(named | {"arms": differences}, folder / "tables")
    page.write_metrics(
        folder / "metrics.csv",
        [({"mode": mode, "seed": seed}, lines) for (mode, seed), lines in runs.items()],
    )
    of_routing = "" if kind == DynamicRouting.kind else f"of routing {kind} "
    what = f"gradient modes {of_routing}compared" if comparison.short else "arms compared"
    made = Page(
        title=f"{folder.name}: {what}",
        lead=[*([" ".join(answered)] if answered else []), describe_arms(comparison, held)],
        tables=list(named.values()),
        reading=[
            reading_of(comparison),
            *describe_losses(comparison, held, runs),
            *evidence_reading,
        ],
        pictures=pictures,
        modes=list(dict.fromkeys(arm.mode for arm in comparison.arms.values())),
        routings=[kind] if comparison.short else [t.routing for t in comparison.arms.values()],
        machine=page.machine_table([("", held.environment)]),
        settings=[("", held.settings)],
        files=[
            *("report.md", "comparison.png", "figures/ (SVG, PDF, PNG)", "tables/ (CSV, LaTeX)"),
        ],
        differences=differences,
        limits=evidence.LIMITS,
        support=support,
        support_reading=[*([SUPPORT] if support else []), *looked.missing],
        confusion=page.draw_panels(confused, folder / "figures"),
        links=page.links_to(folder, RAW),
    )
    (folder / "report.md").write_text(page.to_markdown(made, "comparison.png"), encoding="utf-8")
    shown = [*named.values(), *([] if comparison.short else [differences])]
    return page.write_page(folder / "report.html", made), shown


def class_names(held: Folder, looked: Supported) -> list[str]:
    """Return what the classes are called in figures, as the environment tells it, else their numbers.

    Args:
        held: the comparison's directory.
        looked: what was looked at, which says how many classes there are.
    """
    if not looked.found:
        return []
    count, data = looked.found[0].maps.shape[-1], held.environment.get("data")
    told = data.get("class_names") if isinstance(data, dict) else None
    known = told if isinstance(told, list) and len(told) == count else range(count)
    return [figures.drawn_name(str(name), n) for n, name in enumerate(known)]


def reading_of(comparison: Comparison) -> str:
    """Say how the numbers of a comparison are read, and which arms do not begin as the others."""
    if comparison.short:
        return READING
    names = comparison.beginnings  # of the arms alone that begin otherwise
    own = [f"{n} ({', '.join(b['parameters'])})" for n, b in names.items() if b["parameters"]]
    batches = [name for name, found in names.items() if not found["batches"]]
    but = [f"parameters of their own have {'; '.join(own)}"] if own else []
    but += [f"other batches are seen by {'; '.join(batches)}"] if batches else []
    alike = "Every arm of a seed began with the same parameters and saw the same batches"
    return READING.replace(
        "Every mode of a seed began with the same parameters and saw the same batches",
        alike + (f", where shapes and data allow: {', and '.join(but)}" if but else ""),
    ).replace("the modes took turns", "the arms took turns")


def describe_alignment(comparison: Comparison) -> list[str]:
    """Say what the rows of the table of alignment are that are no groups of parameters, if there are some."""
    some = next((r["group"] for r in comparison.alignment if r["group"].startswith(ALONE)), None)
    if some is None:
        return []
    return [
        f'"{some}" is the gradient of all parameters with the coupling of layer {some.removeprefix(ALONE)} '
        "alone held constant, beside the full one; so for every layer that routes."
    ]


def describe_arms(comparison: Comparison, held: Folder) -> str:
    """Say in a sentence what is compared, on what, and with how many seeds.

    Args:
        comparison: its numbers.
        held: its directory.

    Returns:
        The sentence.
    """
    count = len(comparison.seeds)
    seeds = f"{count} seed{'s' if count != 1 else ''} each"
    on = f"on {held.data_name}"
    if comparison.short:
        return f"{', '.join(comparison.modes)} {on}, {arms.describe_routing(held.config)}, {seeds}."
    names = list(dict.fromkeys(arm.arm for arm in comparison.arms.values()))
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    crossed: dict[str, dict[str, None]] = {}
    for group in comparison.groups:
        for axis, value in group.cell:
            crossed.setdefault(axis, {})[value] = None
    grid = "; ".join(f"{axis} {', '.join(values)}" for axis, values in crossed.items())
    # With several data sets the grid names them already.
    several = len({arm.data for arm in comparison.arms.values()}) > 1
    where = "" if several else f" {on}"
    return f"{shown}{where}{f', for each {grid}' if grid else ''}, {seeds}."


def describe_losses(comparison: Comparison, held: Folder, runs: arms.Runs) -> list[str]:
    """Say which runs failed, and whose metrics are gone.

    Args:
        comparison: its numbers.
        held: its directory.
        runs: their metrics, as `comparison_runs` reads them.

    Returns:
        Sentences, each with the command that trains those runs again; none if nothing is lost.
    """
    untested = [run for run, lines in runs.items() if last_line(lines, "test") is None]
    entries = [
        read_entry(trial)
        for trial in trials_of(held.path, held.config, design(held.config))
        if (trial.arm.name, trial.seed) in untested
    ]
    lost = {(e.trial.arm.name, e.trial.seed): e for e in entries if e.state == "failed"}
    gone = [run_folder(*run) for run in untested if run not in lost]
    again, descriptions = held.how_to_resume()[1], []
    if lost:
        few = "; ".join(str(entry.trial) for entry in list(lost.values())[:4])
        few += "; ..." if len(lost) > 4 else ""
        first = next(iter(lost.values())).why
        descriptions.append(
            f"{len(lost)} of {len(runs)} runs failed, and are left out: {few}. The first failed with: "
            f"{first}. To try them again: {again}."
        )
    if gone:
        few = ", ".join(gone[:4]) + (", ..." if len(gone) > 4 else "")
        descriptions.append(
            f"Curves leave out {len(gone)} of {len(runs)} runs, whose metrics are gone: {few}. "
            f"To train them again, to the same bits: {again}."
        )
    return descriptions
