"""The page of a report, which needs nothing beside it, and the files that lie beside it all the same."""

import base64
import csv
import functools
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

from capsjax.reports import figures
from capsjax.reports.figures import Panel
from capsjax.reports.themes import DARK, LIGHT, drawn_with
from capsjax.routing import DynamicRouting
from capsjax.study.arms import NOT_ROUTED, Lines, each
from capsjax.tables import Table, plain

MEANING = {
    "uniform": "No routing: every child is coupled equally to all parents.",
    "stop": "The coupling is held constant in the backward pass: no gradient passes through the iterations.",
    "truncated": "The gradient passes through the last updates of the logits only, one unless the "
    "configuration says more.",
    "full": "The gradient passes through every iteration of the routing.",
    "closed_form": "As full, by a backward pass that was derived by hand: equal to rounding.",
    "implicit": "The gradient of the fixed point that routing arrives at, by the implicit function theorem.",
}
ROUTINGS = {
    "em": "A parent is a Gaussian that is fitted to the votes of its children: r M-steps, and r − 1 E-steps "
    "between them, which share out the children anew.",
    DynamicRouting.kind: "A child's logits grow by the agreement of its votes with the parents' poses; the "
    "coupling is their softmax.",
    "fixed_point": "Routing by the last agreement alone, which approaches a fixed point as r grows.",
    "variational": "A parent is a Gaussian with a distribution over its parameters, fitted to the votes of "
    "its children by variational Bayes.",
    "inverted_attention": "Parents attend to children: the agreement with the parents' last poses decides, "
    "normalised poses follow.",
    "heinsen": "Parents predict the votes of their children; a child is shared out by how well they do.",
    "self_attention": "How well a vote agrees with all votes for its parent decides, once; nothing "
    "iterates.",
    "slot_attention": "Parents are slots that compete for the children's keys, and are updated by a GRU; "
    "they begin with different values.",
    "interest": "Interests of one shared matrix, routed by agreement from given first logits.",
    "soft_k_means": "A parent is the mean of its votes; a child is shared out by distance.",
    "self": "Each child decides by its own pose which parents it belongs to; nothing iterates, so there is "
    "no gradient mode to choose.",
    NOT_ROUTED: "No layer of the network routes: no child is coupled to a parent.",
}
READOUTS = (
    "Number of routing iterations: r readouts of the parents, and r − 1 updates of the logits between "
    "them. With r = 1 the coupling is that of the first logits, and uniform where these are 0."
)
STEPS = "Number of M-steps of EM routing, with r − 1 E-steps between. With r = 1 the coupling is uniform."
NO_TABLE = Table("", (), ())


class Picture(NamedTuple):
    """Hold a picture for a page.

    Attributes:
        caption: what it shows and how it is read.
        alt: what it shows, for those who do not see it.
        light: it on a light page, as an address that holds all of it.
        dark: the same on a dark page.
        name: of its files, where it has some.
    """

    caption: str
    alt: str
    light: str
    dark: str
    name: str = ""


class Page(NamedTuple):
    """Hold what a page says.

    Attributes:
        title: its name.
        lead: paragraphs at its head.
        tables: the results.
        reading: paragraphs on how they are read.
        pictures: the figures.
        modes: those that occur, whose meaning is told.
        machine: what it ran on.
        settings: pairs of a name, empty where there is one only, and a configuration.
        files: what lies beside the page.
        differences: what sets several configurations apart.
        routings: kinds of routing that occur, whose meaning is told.
        iterates: whether one of them does, so that r is told.
        limits: what the results do not show.
        links: files beside the page that it links to: addresses with what they hold.
        support: pictures of where support comes from.
        support_reading: paragraphs on how they are read, and what is left out.
        confusion: pictures of which classes are taken for which, that stand by themselves.
    """

    title: str
    lead: Sequence[str]
    tables: Sequence[Table]
    reading: Sequence[str]
    pictures: Sequence[Picture]
    modes: Sequence[str]
    machine: Table
    settings: Sequence[tuple[str, str]]
    files: Sequence[str]
    differences: Table = NO_TABLE
    routings: Sequence[str] = ()
    iterates: bool = True
    limits: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    support: Sequence[Picture] = ()
    support_reading: Sequence[str] = ()
    confusion: Sequence[Picture] = ()


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("capsjax.reports")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return made.get_template("report.html")  # StrictUndefined: a slip in a name fails, not vanishes


def write_page(path: Path, page: Page) -> Path:
    """Write a page.

    Args:
        path: the file.
        page: what it says.

    Returns:
        The file.
    """
    routings, modes = each(page.routings), each(page.modes)
    rounds = STEPS if routings == {"em"} else READOUTS
    words = [("r", rounds, "")] if page.iterates else []
    words += [(kind, ROUTINGS[kind], "") for kind in ROUTINGS if kind in routings]
    words += [(mode, MEANING[mode], mode) for mode in MEANING if mode in modes]
    # jinja escapes HTML; what would move the cursor of a terminal, `plain` escapes.
    given = page._asdict() | {
        "title": plain(page.title),
        "lead": [plain(text) for text in page.lead],
        "settings": [(plain(name), text) for name, text in page.settings],
    }
    text = _template().render(**given, words=words, light=LIGHT, dark=DARK)
    path.write_text(text, encoding="utf-8")
    return path


def to_markdown(page: Page, picture: str) -> str:
    """Write a page as Markdown: all but what the words mean and the whole configuration.

    Args:
        page: what it says.
        picture: the file of its figures, beside it.

    Returns:
        The text.
    """
    lead = [plain(text) for text in page.lead]
    tables = "\n".join(table.to_markdown() for table in page.tables)
    support = [*page.support_reading, *(_in_markdown(one) for one in page.support)]
    limits = "\n".join(f"- {limit}" for limit in page.limits)
    links = "\n".join(f"- [{address}]({address}): {what}" for address, what in page.links)
    parts = [
        f"# {plain(page.title)}",
        *lead,
        tables,
        *page.reading,
        f"![figures]({picture})",
        *(["## Where support comes from", *support] if support else []),
        *(["## What this does not show", limits] if limits else []),
        *(["## Configuration", page.differences.to_markdown()] if page.differences.rows else []),
        *(["## Machine and versions", page.machine.to_markdown()] if page.machine.rows else []),
        *(["## Raw data", links] if links else []),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _in_markdown(picture: Picture) -> str:
    return f"![{picture.alt}](figures/{picture.name}.png)"


def links_to(folder: Path, files: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return links to those of some files that there are.

    Args:
        folder: of the page.
        files: addresses in it, and what they hold.

    Returns:
        Pairs of an address and what it holds, in their order.
    """
    return [(name, what) for name, what in files.items() if (folder / name).is_file()]


def draw_panels(panels: Iterable[Panel], folder: Path) -> list[Picture]:
    """Draw panels for a page, and write each as SVG, PDF and PNG.

    Args:
        panels: what to draw.
        folder: where the files go; it is made if it is missing.

    Returns:
        The pictures, in the order of the panels.
    """
    folder.mkdir(exist_ok=True)
    drawn = []
    for panel in panels:
        light, dark = (figures.panel_figure(panel, theme) for theme in (LIGHT, DARK))
        drawn.append(picture(light, dark, folder / panel.name, panel.caption, panel.alt))
    return drawn


def picture(light: Figure, dark: Figure, file: Path, caption: str, alt: str) -> Picture:
    """Make a picture of a figure that was drawn for a light page and for a dark one, and write the light one.

    Args:
        light: the figure for a light page.
        dark: the same for a dark page.
        file: where the light one is written, as SVG, PDF and PNG, without a suffix.
        caption: what it shows and how it is read.
        alt: what it shows, for those who do not see it.

    Returns:
        The picture, with both figures within it as SVG.
    """
    figures.save(light, *(file.with_name(f"{file.name}.{form}") for form in ("svg", "pdf", "png")))
    figures.lay_out(dark, like=light)
    return Picture(caption, alt, *(_address(figure) for figure in (light, dark)))


def _address(figure: Figure) -> str:
    stream = io.BytesIO()
    figures.lay_out(figure)
    with drawn_with(LIGHT):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(stream, format="svg", metadata=metadata, facecolor=figure.get_facecolor())
    # Within the page as an address: a report is one file, which can be sent, and loads nothing.
    short = _shortened(stream.getvalue().decode("utf-8")).encode("utf-8")
    return f"data:image/svg+xml;base64,{base64.b64encode(short).decode()}"


def _shortened(svg: str) -> str:
    """Leave out of an SVG by matplotlib what draws nothing: spaces, comments, digits, long names."""
    svg = re.sub(r"<[?!].*?>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", re.sub(r'<g id="[^"]*"', "<g", svg)).replace("xlink:href", "href")
    # A hundredth of a point, in outlines and places alone: a scale needs all of its digits.
    svg = re.sub(r'\b(?:d|x|y)="[^"]*"|translate\([^)]*\)', _rounded, svg)
    # Letters in a row.
    svg = re.sub(r' transform="translate\((-?[\d.]+) 0\)"/>', r' x="\1"/>', svg)
    names = re.findall(r'(?:href="|url\()#([^")]+)', svg)
    # An id begins with a letter.
    short = {name: f"i{number:x}" for number, name in enumerate(dict.fromkeys(names))}
    place = r'( id="|href="#|url\(#)([^")]+)'
    return re.sub(place, lambda found: found[1] + short.get(found[2], found[2]), svg)


def _rounded(found: re.Match[str]) -> str:
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", found[0])
    return re.sub(r"\s+(?=[A-Za-z\"])|(?<=[A-Za-z])\s+", "", text)


def write_tables(named: Mapping[str, Table], folder: Path) -> None:
    """Write each table as CSV and as LaTeX.

    Args:
        named: tables by the names of their files, without a suffix.
        folder: where the files go; it is made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    for name, table in named.items():
        (folder / f"{name}.csv").write_text(table.to_csv(), encoding="utf-8")
        (folder / f"{name}.tex").write_text(table.to_latex(), encoding="utf-8")


def write_metrics(path: Path, runs: Sequence[tuple[Mapping[str, Any], Lines]]) -> None:
    """Write the metrics of runs as CSV, a row for each line of each run.

    Args:
        path: the file.
        runs: what names a run, the same columns for each, and its lines.
    """
    names = dict.fromkeys(name for known, _ in runs for name in known)
    # Lines differ in what they hold, by split and by version, so the columns are those of all together.
    numbers = sorted({name for _, lines in runs for line in lines for name in line})
    columns = [*names, "split", "step", *(n for n in numbers if n not in ("split", "step"))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for known, lines in runs:
            writer.writerows({**known, **line} for line in lines)


def machine_table(environments: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Make a table of what `environment.json` says of machine, versions, data and command.

    Args:
        environments: pairs of a name and what its file says; a single one needs no name.

    Returns:
        The table: a row for each key, a column for each file.
    """
    formatted = [{key: _format(value) for key, value in found.items()} for _, found in environments]
    keys = dict.fromkeys(key for found in formatted for key in found)
    rows = [(key, *(found.get(key, "") for found in formatted)) for key in keys]
    names = [name for name, _ in environments] if len(environments) > 1 else ["value"]
    return Table(
        "What it ran on, with which versions", ("from environment.json", *names), tuple(rows)
    )


def _format(value: Any) -> str:
    """Write a plain value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_format(item)}" for key, item in value.items())
    if isinstance(value, list):
        parts = [_format(item) for item in value]
        numbers = all(isinstance(item, int) for item in value)
        return ("×" if numbers else " ").join(parts)
    return str(value)[:300]  # a command line may hold anything, of any length
