"""What a run's evaluations came to: tables and panels of the predictions that its directory keeps."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm

from capsjax.checks import UserError
from capsjax.metrics.classification import Classification
from capsjax.metrics.several import LABEL_ERROR
from capsjax.reports.comparison import percent
from capsjax.reports.figures import Panel, drawn_name, legend_below
from capsjax.reports.panels import set_names
from capsjax.reports.themes import Theme
from capsjax.runs import predictions
from capsjax.runs.predictions import Predictions
from capsjax.runs.run import Run
from capsjax.tables import Table, plain

DRAWN = 3  # evaluations that are drawn, the run's own test first
MOST_DRAWN = 30  # classes of a matrix that is drawn
MOST_COUNTED = 12  # classes of a matrix whose counts are legible
MOST_CONFUSED = 10  # pairs of classes in a table
READING = (
    "Precision is the share that is right of what was taken for the class, recall the share of the "
    "class that was taken for it, F1 their harmonic mean, ROC AUC how often an example of the class has a "
    "higher score for it than one of another class. Balanced accuracy is the mean recall; precision, F1 and "
    "ROC AUC of the whole are means over classes. The calibration error is by how much the highest score of "
    "an image, as a probability, misses the share that is right. — is what has no value, such as the recall "
    "of a class without an example."
)


def held(run: Run) -> tuple[list[Predictions], list[str]]:
    """Read what a run was measured to be: of each data and split the newest.

    Args:
        run: the run.

    Returns:
        The predictions, the run's own first, and what was wrong with files that are left out.
    """
    found, wrong = {}, []
    for path in sorted((run.folder / predictions.FOLDER).glob("*.npz")):
        try:
            each = predictions.load(path)
        except UserError as error:
            wrong.append(str(error))
            continue
        if each.lengths.shape[1] != run.num_classes:
            wrong.append(f"{path}: got {each.lengths.shape[1]} classes, expected {run.num_classes}")
            continue
        key = (each.data, each.split, each.fingerprint)
        if key not in found or found[key].step < each.step:
            found[key] = each
    # Of the run's own data the test is what counts.
    order = sorted(
        found.values(), key=lambda each: (each.data != "", each.split != "test", each.name)
    )
    return order, wrong


def tables(run: Run, measured: Sequence[Predictions]) -> dict[str, Table]:
    """Make tables of evaluations, by the names of their files.

    Args:
        run: the run.
        measured: as `held` gives them, at least one.

    Returns:
        All evaluations; the classes of the first; and which of them it confuses most, if any.
    """
    first, names = measured[0], [plain(str(name)) for name in run.classes.tolist()]
    made = {"evaluations": _all(measured), "by_class": _by_class(first, names)}
    pairs = _pairs(first.classification)
    if pairs:
        rows = tuple((names[a], names[b], str(count)) for a, b, count in pairs)
        made["confused"] = Table("Confused most often", ("label", "taken for", "times"), rows)
    return made


def _all(measured: Sequence[Predictions]) -> Table:
    several = any(each.labels.ndim == 2 for each in measured)
    names = ("error", *([LABEL_ERROR] if several else []), "balanced_accuracy", "precision", "f1")
    headings = (
        "evaluated on", "step", "images", "error, %", *(["label error, %"] if several else []),
        "balanced accuracy, %", "precision, %", "F1, %", "ROC AUC", "calibration error",
    )  # fmt: skip
    rows = []
    for each in measured:
        of = each.classification.averages()
        shares = [_share(of.get(name, of["error"])) for name in names]
        others = [_number(of[name]) for name in ("roc_auc", "calibration_error")]
        rows.append((_where(each), str(each.step), str(len(each.labels)), *shares, *others))
    return Table("Evaluations", headings, tuple(rows))


def _by_class(of: Predictions, names: Sequence[str]) -> Table:
    found = of.classification
    columns = [[_share(x) for x in values] for values in (found.precision, found.recall, found.f1)]
    counts, areas = found.support.tolist(), [_number(x) for x in found.roc_auc]
    rows = zip(names, map(str, counts), *columns, areas, strict=True)
    headings = ("class", "images", "precision, %", "recall, %", "F1, %", "ROC AUC")
    return Table(f"By class, {_where(of)}", headings, tuple(rows), READING)


def _where(of: Predictions) -> str:
    """Say which examples were measured."""
    split = "all splits" if of.split == "all" else f"{of.split} split"
    return f"{plain(of.data)}, {split}" if of.data else split


def _share(value: float) -> str:
    return "—" if math.isnan(value) else percent(value)


def _number(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.4f}"


def _pairs(found: Classification) -> list[tuple[int, int, int]]:
    """Return the pairs (label, predicted, count) that are confused most often."""
    wrong = found.confusion - np.diag(np.diag(found.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(a), int(b), int(wrong[a, b])) for a, b in places if wrong[a, b]]


def panels(run: Run, measured: Sequence[Predictions]) -> list[Panel]:
    """Return the confusion matrix, of not too many classes, and the calibration of the first evaluations.

    Args:
        run: the run.
        measured: as `held` gives them.
    """
    names = [drawn_name(str(name), n) for n, name in enumerate(run.classes.tolist())]
    few, found = run.num_classes <= MOST_DRAWN, []
    for number, each in enumerate(measured[:DRAWN]):
        end = f"_{number}" if number else ""
        found += [confusion_panel(f"confusion{end}", each, names, _where(each))] * few
        if each.classification.reliability.size:
            found.append(_reliability(f"calibration{end}", each))
    return found


def confusion_panel(name: str, of: Predictions, names: Sequence[str], where: str) -> Panel:
    """Return the confusion matrix of predictions.

    Args:
        name: of its files.
        of: the predictions.
        names: what the classes are called.
        where: what was measured, in words.
    """
    counts = of.classification.confusion
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))

    def draw(ax: Axes, theme: Theme) -> None:
        colours = LinearSegmentedColormap.from_list("confusion", [theme.page, theme.ink])
        # A root: a few that are confused are seen beside many that are not.
        ax.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), aspect="auto")
        if len(names) <= MOST_COUNTED:
            for (row, column), count in np.ndenumerate(counts):
                dark = shares[row, column] > 0.2
                ax.text(
                    column, row, str(count) if count else "", ha="center", va="center", fontsize=7,
                    color=theme.page if dark else theme.ink,
                )  # fmt: skip
        if len(names) <= MOST_COUNTED:
            set_names(ax, names)
            ax.set_yticks(range(len(names)), names)
        for word in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            word.set_parse_math(False)  # names are not formulas
        ax.tick_params(labelsize=8)
        ax.grid(visible=False)
        ax.set_xlabel("taken for")
        ax.set_ylabel("label")
        ax.set_title(f"confusion matrix ({where})", fontsize=10, parse_math=False)

    pairs = _pairs(of.classification)
    worst = (
        f"most often {names[pairs[0][0]]} was taken for {names[pairs[0][1]]}, {pairs[0][2]} times"
        if pairs
        else "none was confused"
    )
    caption = (
        f"How many images of each class (a row) were taken for which class (a column), {where}. The "
        "darker on a light page, or the lighter on a dark one, the larger the share of the row."
    )
    return Panel(name, caption, f"Confusion matrix of {len(of.labels)} images; {worst}.", draw)


def _reliability(name: str, of: Predictions) -> Panel:
    confidence, right, counts = of.classification.reliability
    error = of.classification.calibration_error

    def draw(ax: Axes, theme: Theme) -> None:
        label = "as right as it says"
        ax.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (2, 2)), label=label)
        sizes = 12 + 120 * counts / counts.max()
        ax.plot(confidence, right, color=theme.ink, linewidth=1.2)
        ax.scatter(confidence, right, s=sizes, color=theme.ink, label="images, by score")
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.05, 1.05)
        ax.set_xlabel("highest score of a class")
        ax.set_ylabel("share that is right")
        ax.set_title(f"calibration ({_where(of)})", fontsize=10, parse_math=False)
        legend_below(ax)

    points = ", ".join(f"{r:.2f} at {c:.2f}" for c, r in zip(confidence, right, strict=True))
    caption = (
        f"How many of those are right that are as certain, {_where(of)}: above the line scores say too "
        f"little, below it too much. The larger a dot, the more images. Calibration error {error:.4f}."
    )
    return Panel(name, caption, f"Share that is right against the score: {points}.", draw)
