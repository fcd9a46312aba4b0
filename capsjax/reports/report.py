"""Reports: one page for a run or a comparison, from its directory alone; nothing is trained."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from capsjax.checks import UserError
from capsjax.layers import shapes
from capsjax.metrics.classification import longest_classes
from capsjax.progress import Reporter, Silent
from capsjax.reports import evaluations, figures, layer_panels, page, panels
from capsjax.reports.comparison import percent
from capsjax.reports.comparison_page import report_comparison
from capsjax.reports.page import Page, Picture
from capsjax.reports.themes import DARK, LIGHT
from capsjax.reports.unfinished import report_unfinished
from capsjax.routing import DynamicRouting
from capsjax.runs import evaluation
from capsjax.runs.feeds import eval_feed
from capsjax.runs.folder import Folder
from capsjax.runs.run import Run
from capsjax.runs.sources import load_data, shaped_data
from capsjax.study import arms
from capsjax.study.arms import Lines
from capsjax.tables import Table, plain

TRAINING = (
    "The training error is the mean over the logged batches of the steps named, each measured before its "
    "step, on images as they are trained on; validation and test errors are of all images, with the "
    "parameters after the step named."
)
SHOWN = 12  # test images that are reconstructed
COLUMNS = 6  # of them, whose activations are drawn layer by layer


def report_run(
    folder: Path, data: object = None, *, reporter: Reporter | None = None
) -> tuple[Path, list[Table]]:
    """Write the report of a run into its directory.

    `report.html`, `curves.png` and `reconstructions.png`; in `figures` each figure as SVG, PDF and PNG,
    in `tables` each table as CSV and LaTeX; and `metrics.csv`. If the data cannot be had, the report
    leaves out reconstructions and says so.

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
    shown: _Shown | None = None
    try:
        shown = _shown(run, data)
        pictures += _reconstructions(run, shown)
    except UserError as error:
        if data is not None:  # given on purpose: a report without them is not what was asked for
            raise
        reading.append(f"Reconstructions are left out, since the data cannot be had: {error}.")
    reading += [f"An evaluation is left out: {why}." for why in damaged]
    tables = {"last_measurements": table}
    if shown is not None:
        tables["layers"], activations = _layers(run, shown)
        pictures.append(activations)
    if measured:
        tables |= evaluations.tables(run, measured)
    if run.class_names:
        tables["classes"] = classes_table(run)
    page.write_tables(tables, folder / "tables")
    page.write_metrics(folder / "metrics.csv", [({}, metrics)])
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
        files=["figures/ (SVG, PDF, PNG)", "tables/ (CSV, LaTeX)", "curves.png", "metrics.csv"],
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


class _Shown(NamedTuple):
    """Hold the first test images: as they go into the network, their labels, and as the data have them."""

    images: np.ndarray
    labels: np.ndarray
    raw: np.ndarray


def _shown(run: Run, data: object) -> _Shown:
    """Read the images that are looked at."""
    dataset = load_data(run.config, shaped_data(run.config, data, run.image_shape), Silent())
    size = min(SHOWN, len(dataset.test))
    feed = eval_feed(
        run.config, dataset.test, dataset.scale, overlap=dataset.overlap, batch_size=size
    )
    batch = next(iter(feed))
    pairs = dataset.overlap is not None
    # Standardised images are shown as they were before, as the decoder draws them.
    seen = batch.images if pairs or batch.targets is None else batch.targets
    images, labels = np.asarray(seen), np.asarray(batch.labels).reshape(size, -1)  # [n, k]
    raw = images if pairs else dataset.test.images[:size]
    raw = raw if dataset.rescaling is None else dataset.rescaling.inverse(raw)
    return _Shown(images, labels, raw)


def _layers(run: Run, shown: _Shown) -> tuple[Table, Picture]:
    """Measure and draw what each layer makes of the first test images."""
    model = run.config.model
    steps = shapes(model, run.config.input_shape(run.image_shape), run.num_classes)
    passed = run.passed(shown.raw)
    table = layer_panels.layers_table(passed, steps, len(shown.raw))
    predicted = np.asarray(run.lengths(shown.raw)).argmax(-1)
    few = layer_panels.maps(passed, steps, predicted)
    light, dark = (
        layer_panels.layers_figure(
            shown.images[:COLUMNS], [(title, rows[:COLUMNS]) for title, rows in few], theme
        )
        for theme in (LIGHT, DARK)
    )
    alt = f"Activations of {len(table.rows)} layers for {min(COLUMNS, len(shown.raw))} test images."
    return table, page.picture(
        light, dark, run.folder / "figures" / "layers", layer_panels.CAPTION, alt
    )


def _reconstructions(run: Run, shown: _Shown) -> list[Picture]:
    """Draw the first test images and what the decoder made of them, where there is a decoder."""
    images, labels, size = shown.images, shown.labels, len(shown.images)
    output = run.outputs(shown.raw)
    if output.reconstruction is None:
        return []
    count = run.labels_per_image
    predicted = longest_classes(np.asarray(output.lengths), count).reshape(size, -1)
    names = [figures.drawn_name(str(name), n) for n, name in enumerate(run.classes.tolist())]
    told, found = (
        [" ".join(names[number] for number in row) for row in numbers.tolist()]
        for numbers in (labels, predicted)
    )
    drawn = np.asarray(output.reconstruction).reshape(size, -1, *images.shape[1:])
    light, dark = (
        figures.reconstruction_figure(images, drawn, told, found, theme) for theme in (LIGHT, DARK)
    )
    figures.save(light, run.folder / "reconstructions.png")
    right = sum(a == b for a, b in zip(told, found, strict=True))
    of, word = (
        ("its longest capsule", "label")
        if count == 1
        else (f"each of its {count} longest capsules", "labels")
    )
    caption = (
        f"Test images, and below each what the decoder drew from {of}. Above: the "
        f"{word} → the prediction; bold where they differ."
    )
    alt = f"{len(images)} test images and their reconstructions; {right} of them classified correctly."
    return [page.picture(light, dark, run.folder / "figures" / "reconstructions", caption, alt)]


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
