"""Reports: one page for a run or a comparison, from its directory alone; nothing is trained."""

import base64
import html
from pathlib import Path

import numpy as np

from capsjax import configyaml, experiment, rundir
from capsjax.analysis import figures, tables
from capsjax.analysis.tables import Table
from capsjax.data import to_float
from capsjax.experiment import Run
from capsjax.training.progress import Silent

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
"""

READING = (
    "Every mode of a seed began with the same parameters and saw the same batches. Differences are "
    "paired by seed; with few seeds an interval that holds 0 shows no difference, and does not prove "
    "that there is none; one without width comes from equal differences, and is no certainty. Times "
    "come from one pass in which the modes took turns; memory is the compiler's figure for temporary "
    "arrays of one step."
)


def report_comparison(folder: Path) -> tuple[Path, list[Table]]:
    """Write `report.html`, `report.md` and `comparison.png` into a comparison's directory.

    Args:
        folder: a comparison's directory.

    Returns:
        The HTML page, and its tables.

    Raises:
        UserError: where the directory holds no finished comparison.
    """
    comparison = tables.read_comparison(folder)
    shown = [tables.results_table(comparison), tables.alignment_table(comparison)]
    figure = figures.save(figures.comparison_figure(comparison, folder), folder / "comparison.png")
    text = "\n".join(table.to_markdown() for table in shown)
    (folder / "report.md").write_text(
        f"# {folder.name}\n\n{text}\n{READING}\n\n![figures](comparison.png)\n", encoding="utf-8"
    )
    page = _page(folder, READING, shown, [figure])
    return page, shown


def report_run(folder: Path, data: object = None) -> tuple[Path, list[Table]]:
    """Write `report.html`, `curves.png` and `reconstructions.png` into a run's directory.

    Args:
        folder: a run's directory.
        data: the user's own arrays, where the run was trained on such.

    Returns:
        The HTML page, and its tables.

    Raises:
        UserError: where there is no such run, or its data cannot be had.
    """
    run = experiment.load(folder)
    pictures = [figures.save(figures.run_figure(run.metrics), folder / "curves.png")]
    dataset = experiment.load_data(run.config, data, Silent())
    images, labels = dataset.test.images[:12], dataset.test.labels[:12]
    output = run.outputs(images)
    if output.reconstruction is not None:
        figure = figures.reconstruction_figure(
            np.asarray(to_float(images, dataset.scale)),
            np.asarray(output.reconstruction),
            labels.tolist(),
            np.asarray(output.lengths.argmax(-1)).tolist(),
        )
        pictures.append(figures.save(figure, folder / "reconstructions.png"))
    last = {line["split"]: line for line in run.metrics}
    rows = tuple(
        (split, str(line["step"]), f"{100 * line['error']:.2f}", f"{line['loss']:.4f}")
        for split, line in last.items()
    )
    table = Table("Last measurements", ("split", "step", "error, %", "loss"), rows)
    reading = (
        "Curves, and the first test images above what the decoder drew from the longest capsule."
    )
    return _page(folder, reading, [table], pictures), [table]


def report(run_dir: Run | str | Path, data: object = None) -> Path:
    """Draw the report of a run or a comparison, from its directory alone; nothing is trained.

    Args:
        run_dir: the directory of a run or of a comparison, or the run.
        data: the user's own arrays, as `train` got them, where the run was trained on such; a comparison
            needs none.

    Returns:
        The page, `report.html` in that directory.

    Raises:
        UserError: If there is no such run or finished comparison, or the data that were given do not fit.
    """
    folder = run_dir.folder if isinstance(run_dir, Run) else Path(run_dir).absolute()
    if (folder / "comparison.json").exists():
        return report_comparison(folder)[0]
    return report_run(folder, data)[0]


def _page(folder: Path, reading: str, shown: list[Table], pictures: list[Path]) -> Path:
    """Write one page that needs nothing beside it."""
    embedded = "".join(
        f'<img alt="{picture.stem}" src="data:image/png;base64,'
        f'{base64.b64encode(picture.read_bytes()).decode()}">'
        for picture in pictures
    )
    settings = html.escape(configyaml.dump(rundir.read_config(folder)))
    path = folder / "report.html"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(folder.name)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(folder.name)}</h1><p>{reading}</p>"
        f"{''.join(table.to_html() for table in shown)}{embedded}"
        f"<h2>Configuration</h2><pre>{settings}</pre></html>\n",
        encoding="utf-8",
    )
    return path
