"""Reports: one page for a run or a comparison, from its directory alone; nothing is trained."""

import math
import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capsjax.checks import UserError
from capsjax.layers import shapes
from capsjax.metrics.classification import longest_classes
from capsjax.progress import Reporter
from capsjax.reports import evaluations, figures, layer_panels, page, panels
from capsjax.reports.comparison import percent
from capsjax.reports.comparison_page import report_comparison
from capsjax.reports.figures import Panel
from capsjax.reports.gradient_panels import distance_panel
from capsjax.reports.page import Page, Picture
from capsjax.reports.shown import Shown, coupling_records, couplings_table, gather_shown
from capsjax.reports.themes import DARK, LIGHT
from capsjax.reports.unfinished import report_unfinished
from capsjax.routing import DynamicRouting
from capsjax.runs import evaluation
from capsjax.runs.folder import Folder
from capsjax.runs.predictions import FOLDER
from capsjax.runs.run import Run
from capsjax.study import arms
from capsjax.study.arms import Lines
from capsjax.study.seen import LAYER, Records
from capsjax.tables import Table, plain

TRAINING = (
    "The training error is the mean over the logged batches of the steps named, each measured before its "
    "step, on images as they are trained on; validation and test errors are of all images, with the "
    "parameters after the step named."
)
COLUMNS = 6  # of the test images that are shown, whose activations are drawn layer by layer
LIMITS = (
    "This is one run. Another seed gives other numbers, and how far those of several lie apart is not seen "
    "here; capsjax compare trains them.",
    "The test images that are drawn are chosen, wrong ones first: no sample of how the network does.",
    "Activations and couplings go with what the network answers; they do not show why it does.",
)

# What there is beside a page to compute its numbers again.
RAW = {
    "metrics.jsonl": "every line of the run",
    "metrics.csv": "the same as a table",
    "alignment.jsonl": "gradients and couplings, along training",
    "config.yaml": "the configuration",
    "environment.json": "machine and versions",
}


def report_run(
    folder: Path, data: object = None, *, reporter: Reporter | None = None
) -> tuple[Path, list[Table]]:
    """Write the report of a run into its directory.

    `report.html`, `curves.png` and `reconstructions.png`, without a decoder `test_images.png`; in `figures`
    each figure as SVG, PDF and PNG, in `tables` each table as CSV and LaTeX; and `metrics.csv`. If the data
    cannot be had, the report leaves out test images, layers and couplings, and says so.

    Args:
        folder: a run's directory.
        data: the user's own arrays, if the run was trained on such.
        reporter: told if a checkpoint is damaged or gone; None to warn.

    Returns:
        The HTML page, and its tables.

    Raises:
        UserError: If there is no such run, or the data that were given do not fit.
    """
    # The newest checkpoint, whether or not the run is finished: a report looks at what there is.
    run = evaluation.load(folder, reporter=reporter)
    metrics, mode = run.metrics, arms.mode_of(run.config)
    figures.save(panels.run_figure(metrics, mode), folder / "curves.png")
    measured, damaged = evaluations.held(run)
    pictures = page.draw_panels(
        [
            *panels.run_panels(metrics, mode, run.num_classes),
            *evaluations.panels(run, measured),
        ],
        folder / "figures",
    )
    held = run.directory
    table = last_measurements(metrics, run.config.training.batch_size)
    reading = []
    if (mismatch := run.mismatch()) is not None:
        reading.append(f"Reconstructions: {mismatch}.")
    if not metrics:
        reading.append("Nothing is measured yet: the run stopped before its first log.")
    shown: Shown | None = None
    try:
        shown = gather_shown(run, data, measured)
    except UserError as error:
        if data is not None:  # given on purpose: a report without them is not what was asked for
            raise
        reading.append(
            "Test images, and what the network makes of them, are left out, since the data cannot be had: "
            f"{error}."
        )
    reading += [f"An evaluation is left out: {why}." for why in damaged]
    tables = {"last_measurements": table}
    if shown is not None:
        tables["layers"], activations = _layers(run, shown)
        pictures += [_images(run, shown), activations]
        if records := coupling_records(shown.of_first):  # of layers that iterate
            tables["couplings"] = couplings_table(records, len(shown.first.raw))
            pictures += page.draw_panels(_couplings(records, mode), folder / "figures")
    if measured:
        tables |= evaluations.tables(run, measured)
    if run.class_names:
        tables["classes"] = classes_table(run)
    page.write_tables(tables, folder / "tables")
    page.write_metrics(folder / "metrics.csv", [({}, metrics)])
    kept = sorted((folder / FOLDER).glob("*.npz"))
    raw = RAW | {f"{FOLDER}/{path.name}": "predictions of an evaluation" for path in kept}
    kind, rounds = arms.routing_kind(run.config), arms.iterations(run.config)
    named = [] if kind == DynamicRouting.kind else [arms.in_words(kind)]
    named += [f"gradient mode {mode}"] if rounds else []
    facts = [held.data_name, arms.describe_routing(run.config), f"seed {run.config.seed}"]
    made = Page(
        title=f"{folder.name}: a run with {', '.join(named)}",
        lead=[
            f"{', '.join(filter(None, facts))}, {run.step} steps"
            + ("." if any(line["split"] == "test" for line in metrics) else "; not finished.")
        ],
        tables=list(tables.values()),
        reading=reading,
        pictures=pictures,
        modes=[mode],
        routings=[kind],
        iterates=bool(rounds),
        machine=page.machine_table([("", held.environment)]),
        settings=[("", held.settings)],
        files=["figures/ (SVG, PDF, PNG)", "tables/ (CSV, LaTeX)", "curves.png"],
        limits=LIMITS if shown is not None else LIMITS[:1],
        links=page.links_to(folder, raw),
    )
    return page.write_page(folder / "report.html", made), list(tables.values())


def classes_table(run: Run) -> Table:
    """Make the table of what the data call each class, by its number.

    Args:
        run: a run whose classes have names.

    Returns:
        The table: a row for each class.
    """
    rows = tuple((plain(str(name)), str(n)) for n, name in enumerate(run.class_names))
    return Table("Classes", ("name", "number"), rows)


def last_measurements(metrics: Lines, batch_size: int) -> Table:
    """Make the table of the last error and loss of each split, in training averaged over logged batches.

    Args:
        metrics: a run's lines.
        batch_size: images in a step.

    Returns:
        The table: a row for each split.
    """
    rows = []
    trained = arms.recent_training(metrics)
    if trained is not None:
        s = "" if trained.batches == 1 else "es"
        rows.append(
            (
                "train",
                f"{trained.first} to {trained.last}" if trained.batches > 1 else f"{trained.last}",
                f"{trained.batches} logged batch{s}, {trained.batches * batch_size} images",
                percent(trained.error),
                f"{trained.loss:.4f}",
            )
        )
    last = {line["split"]: line for line in metrics if line["split"] != "train"}
    for split, line in last.items():
        count = line.get("examples")
        rows.append(
            (
                split,
                str(line["step"]),
                "all images" if count is None else f"all {count:.0f} images",
                percent(line.get("error", math.nan)),
                f"{line['loss']:.4f}",
            )
        )
    headings = ("split", "step", "measured on", "error, %", "loss")
    return Table("Last measurements", headings, tuple(rows), TRAINING)


def _layers(run: Run, shown: Shown) -> tuple[Table, Picture]:
    """Measure what each layer makes of the first test images, and draw what it makes of the chosen ones."""
    model, count = run.config.model, len(shown.chosen.raw)
    steps = shapes(model, run.config.input_shape(run.image_shape), run.num_classes)
    # Together, so that one program is compiled; the chosen ones would not be a fair sample.
    passed = run.passed(np.concatenate([shown.chosen.raw, shown.first.raw]))
    chosen, first = (
        jax.tree.map(operator.itemgetter(part), passed)
        for part in (slice(None, count), slice(count, None))
    )
    table = layer_panels.layers_table(first, steps, len(shown.first.raw))
    few = layer_panels.maps(chosen, steps, np.asarray(shown.output.lengths).argmax(-1))
    light, dark = (
        layer_panels.layers_figure(
            shown.chosen.seen[:COLUMNS], [(title, rows[:COLUMNS]) for title, rows in few], theme
        )
        for theme in (LIGHT, DARK)
    )
    alt = f"Activations of {len(table.rows)} layers for {min(COLUMNS, count)} test images."
    caption = f"{layer_panels.CAPTION} {shown.order}"
    return table, page.picture(light, dark, run.folder / "figures" / "layers", caption, alt)


def _images(run: Run, shown: Shown) -> Picture:
    """Draw the chosen test images, and what the decoder made of them where there is a decoder."""
    images, labels, drawn = shown.chosen.seen, shown.chosen.labels, shown.output.reconstruction
    size, count = len(images), run.labels_per_image
    predicted = longest_classes(np.asarray(shown.output.lengths), count).reshape(size, -1)
    names = [figures.drawn_name(str(name), n) for n, name in enumerate(run.classes.tolist())]
    told, found = (
        [" ".join(names[number] for number in row) for row in numbers.tolist()]
        for numbers in (labels, predicted)
    )
    # As many below each image as capsules are drawn of; without a decoder none.
    below = np.zeros((size, 0, *images.shape[1:])) if drawn is None else np.asarray(drawn)
    below = below.reshape(size, -1 if below.size else 0, *images.shape[1:])
    light, dark = (
        figures.reconstruction_figure(images, below, told, found, theme) for theme in (LIGHT, DARK)
    )
    name = "test_images" if drawn is None else "reconstructions"
    figures.save(light, run.folder / f"{name}.png")
    right = sum(a == b for a, b in zip(told, found, strict=True))
    of, word = (
        ("the capsule of the class predicted", "label")
        if count == 1
        else (f"each capsule of the {count} classes predicted", "labels")
    )
    made = "" if drawn is None else f", and below each what the decoder drew from {of}"
    caption = f"Test images{made}. Above: the {word} → the prediction; bold where they differ. {shown.order}"
    beside = "" if drawn is None else " and their reconstructions"
    first = "" if right == size else ", wrong ones first"
    alt = f"{size} test images{beside}{first}; {right} of them classified correctly."
    return page.picture(light, dark, run.folder / "figures" / name, caption, alt)


def _couplings(records: Records, mode: str) -> list[Panel]:
    """Draw what the couplings do from iteration to iteration, layer by layer."""
    of_layer: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        of_layer.setdefault(record[LAYER], []).append(record)
    return [
        distance_panel(
            re.sub(r"[^A-Za-z0-9.=_]+", "-", f"couplings_{layer}"), layer, {mode: (mode, found)}
        )
        for layer, found in of_layer.items()
    ]


def report(run_dir: Run | str | Path, data: object = None) -> Path:
    """Draw the report of a run or a comparison, from its directory alone; nothing is trained.

    Args:
        run_dir: the directory of a run or of a comparison, or the run.
        data: the user's own arrays, as `train` got them, where the run was trained on such; a comparison
            needs none.

    Returns:
        The page, `report.html` in that directory.

    Raises:
        UserError: If there is no such run or comparison, or the data that were given do not fit.
    """
    folder = run_dir.folder if isinstance(run_dir, Run) else Path(run_dir).absolute()
    held = Folder(folder)
    if held.is_finished_comparison:
        return report_comparison(folder)[0]
    if held.is_comparison:
        return report_unfinished(folder)[0]
    return report_run(folder, data)[0]
