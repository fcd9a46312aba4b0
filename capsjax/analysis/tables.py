"""A comparison's numbers as tables: one form for terminals, Markdown, HTML, CSV and LaTeX."""

import csv
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from capsjax import rundir
from capsjax.analysis.cost import Cost, ratio
from capsjax.analysis.statistics import Difference, paired_difference, summarise
from capsjax.checks import printable
from capsjax.routing import DynamicRouting
from capsjax.training.writers import numbers

LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "—": "---",
}


def plain(text: str) -> str:
    """Write a name that others chose in one line, with what would command a terminal escaped."""
    return " ".join(printable(text).splitlines())


class Table(NamedTuple):
    """Hold a table: title, headings and rows of finished text; the first column is left-aligned."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_rich(self) -> RichTable:
        """Return it for a terminal."""
        title = Text(plain(self.title)) if self.title else None
        table = RichTable(title=title, title_justify="left")
        for place, heading in enumerate(self.headings):
            justify = "right" if place else "left"
            table.add_column(Text(plain(heading)), justify=justify, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        return table

    def within(self, width: int) -> list["Table"]:
        """Part it into tables that a terminal shows without breaking a cell, each with the first column.

        Args:
            width: columns of the terminal.

        Returns:
            Tables, one where all of it fits; a single column that is too wide by itself is left so.
        """
        columns = zip(self.headings, *self.rows, strict=True)
        first, *rest = [max(cell_len(plain(cell)) + 3 for cell in column) for column in columns]
        groups, used = (
            [[0]],
            first + 1,
        )  # a border at the right, and three for borders and room of a cell
        for place, wide in enumerate(rest, start=1):
            if used + wide > width and len(groups[-1]) > 1:
                groups, used = [*groups, [0]], first + 1
            groups[-1].append(place)
            used += wide
        return [
            Table(
                "" if number else self.title,
                tuple(self.headings[place] for place in group),
                tuple(tuple(row[place] for place in group) for row in self.rows),
            )
            for number, group in enumerate(groups)
        ]

    def to_markdown(self) -> str:
        """Return it as Markdown."""
        rule = ("---", *("---:" for _ in self.headings[1:]))
        rows = [
            [plain(cell).replace("|", "\\|") for cell in r] for r in (self.headings, *self.rows)
        ]
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
        return f"**{plain(self.title)}**\n\n" + "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """Return it as HTML; the first cell of a row is its heading."""

        def cell(text: str, tag: str) -> str:
            return f"<{tag}>{html.escape(plain(text))}</{tag.split()[0]}>"

        def line(first: str, rest: str, cells: Sequence[str]) -> str:
            tags = (first, *(rest for _ in cells[1:]))
            return "<tr>" + "".join(map(cell, cells, tags)) + "</tr>"

        column = 'th scope="col"'
        head = line(column, column, self.headings)
        body = "".join(line('th scope="row"', "td", row) for row in self.rows)
        caption = html.escape(plain(self.title))
        return (
            f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"
        )

    def to_csv(self) -> str:
        """Return headings and rows as CSV."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(
            [plain(cell) for cell in row] for row in (self.headings, *self.rows)
        )
        return stream.getvalue()

    def to_latex(self) -> str:
        """Return it as a LaTeX table, which needs no package."""

        def written(text: str) -> str:
            return "".join(LATEX.get(sign, sign) for sign in plain(text))

        def cell(text: str) -> str:
            return written(f"−{text[1:]}" if text[:1] == "-" and text[1:2].isdigit() else text)

        lines = [" & ".join(map(cell, row)) + r" \\" for row in (self.headings, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{written(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.headings) - 1)}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


class Comparison(NamedTuple):
    """Hold what `comparison.json` says.

    Attributes:
        modes: names of the modes, in the order of the configuration.
        seeds: the seeds, the same for every mode.
        iterations: r of the routing.
        errors: test errors by mode, from 0 to 1, in the order of seeds.
        costs: cost of a step by mode.
        alignment: one record for each group of parameters, epoch, seed and mode.
    """

    modes: list[str]
    seeds: list[int]
    iterations: int
    errors: dict[str, list[float]]
    costs: dict[str, Cost]
    alignment: list[dict[str, Any]]


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison from its directory.

    Raises:
        UserError: where the directory holds no finished comparison.
    """
    raw = rundir.read_comparison(folder)
    costs = {
        mode: Cost(tuple(cost["seconds"]), cost["temp_bytes"]) for mode, cost in raw["cost"].items()
    }
    return Comparison(
        modes=raw["modes"],
        seeds=raw["seeds"],
        iterations=raw["iterations"],
        errors=raw["test_error"],
        costs=costs,
        alignment=[numbers(record) for record in raw["alignment"]],
    )


def results_table(comparison: Comparison, routing: str = DynamicRouting.kind) -> Table:
    """Tell of each mode its test error, the paired difference to full, and the cost of a step.

    Args:
        comparison: its numbers.
        routing: the kind of its routing, which the title names where it is not by agreement.
    """
    rows = []
    full = comparison.errors["full"]
    for mode in comparison.modes:
        errors, cost = comparison.errors[mode], comparison.costs[mode]
        found, difference = summarise(errors), paired_difference(errors, full)
        middle, low, high = ratio(cost, comparison.costs["full"])
        rows.append(
            (
                mode,
                percent(found.mean) + (f" ± {percent(found.sd)}" if len(errors) > 1 else ""),
                "—" if mode == "full" else signed(difference.mean),
                "—" if mode == "full" else told_interval(difference, len(errors)),
                f"{1000 * float(np.median(cost.seconds)):.2f}",
                "1" if mode == "full" else f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{cost.temp_bytes / 1e6:.2f}",
            )
        )
    headings = (
        "mode",
        "test error, %",
        "minus full, points",
        "95 % interval",
        "ms a step",
        "of full's time",
        "temporary MB",
    )
    count = len(comparison.seeds)
    named = "" if routing == DynamicRouting.kind else f", routing {routing}"
    title = (
        f"Gradient modes{named}, r = {comparison.iterations}, {count} seed{'s' if count != 1 else ''}: "
        "mean ± standard deviation"
    )
    return Table(title, headings, tuple(rows))


def alignment_table(comparison: Comparison) -> Table:
    """Tell how the stop gradient points beside the full one, by group, along the full run's training."""
    records = [record for record in comparison.alignment if record["mode"] == "full"]
    epochs = sorted({record["epoch"] for record in records})
    rows = []
    for group in dict.fromkeys(record["group"] for record in records):
        cells = []
        for epoch in epochs:
            chosen = [r for r in records if r["group"] == group and r["epoch"] == epoch]
            cosine = np.mean([record["cosine"] for record in chosen])
            norm_ratio = np.mean([record["norm_ratio"] for record in chosen])
            cells.append(f"{cosine:.4f}, {norm_ratio:.3f}")
        rows.append((group, *cells))
    headings = ("parameters", *(f"epoch {epoch}" for epoch in epochs))
    title = "Stop gradient against full: cosine, ratio of lengths (means over seeds)"
    return Table(title, headings, tuple(rows))


def percent(share: float) -> str:
    """Write a share from 0 to 1 in percent, without the sign."""
    return f"{100 * share:.2f}"


def signed(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}"


def told_interval(difference: Difference, count: int) -> str:
    """Write the interval of a paired difference; in words where every seed has the same one."""
    if count > 1 and math.isclose(difference.low, difference.high, rel_tol=0, abs_tol=1e-12):
        same = "equal" if abs(difference.mean) < 1e-12 else signed(difference.mean)
        return f"{same} in {'both' if count == 2 else f'all {count}'} seeds"
    return interval(difference.low, difference.high)


def interval(low: float, high: float) -> str:
    """Write an interval of differences in percentage points; a dash for one without bounds."""
    return "—" if math.isnan(low) else f"{100 * low:+.2f} to {100 * high:+.2f}"
