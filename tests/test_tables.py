"""A table is the same in every form, and what it holds commands nothing."""

import csv
import io

from rich.console import Console

from capsjax.tables import Table

TABLE = Table("A <b>", ("x", "y & z"), (("1", "2 < 3"), ("4", "[red]5")))


def printed(table):
    stream = io.StringIO()
    Console(file=stream, width=80).print(table.to_rich())
    return stream.getvalue()


def test_one_table_in_five_forms():
    assert TABLE.to_markdown() == (
        "**A <b>**\n\n| x | y & z |\n| --- | ---: |\n| 1 | 2 < 3 |\n| 4 | [red]5 |\n"
    )
    assert "2 &lt; 3" in TABLE.to_html()
    assert "<b>" not in TABLE.to_html()
    for part in ("A <b>", "x", "y & z", "2 < 3", "[red]5"):
        assert part in printed(TABLE)
    assert list(csv.reader(io.StringIO(TABLE.to_csv()))) == [
        ["x", "y & z"],
        ["1", "2 < 3"],
        ["4", "[red]5"],
    ]
    assert r"\caption{A \textless{}b\textgreater{}}" in TABLE.to_latex()
    assert r"1 & 2 \textless{} 3 \\" in TABLE.to_latex()


def test_a_note_stands_below_its_table_and_below_the_last_of_its_parts():
    table = Table("t", ("a", "b"), (("x" * 20, "y" * 20),), "What b means.")
    assert table.to_markdown().endswith("|\n\nWhat b means.\n")
    assert "means" not in table.to_csv() + table.to_latex() + table.to_html()
    parts = Table("t", ("a", "b", "c"), (("x" * 20,) * 3,), "What b means.").within(50)
    assert [part.note for part in parts] == ["", "What b means."]


def test_latex_sets_what_the_tables_write():
    table = Table(
        "100 % of a_b",
        ("mode", "err"),
        (("stop", "1.00 ± 0.10"), ("full", "-0.46 to +1.26"), ("$", "—")),
    )
    text = table.to_latex()
    assert r"\caption{100 \% of a\_b}" in text
    assert r"stop & 1.00 $\pm$ 0.10 \\" in text
    assert r"full & $-$0.46 to +1.26 \\" in text
    assert r"\$ & --- \\" in text
    assert r"\begin{tabular}{lr}" in text


def test_names_that_would_command_a_terminal_or_a_page_are_shown_harmlessly():
    evil = "a\x1b[31mb\x07\nc|d<script>"
    table = Table(evil, (evil, "x"), ((evil, evil),))
    for text in (
        printed(table),
        table.to_markdown(),
        table.to_html(),
        table.to_csv(),
        table.to_latex(),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text
    assert "<script>" not in table.to_html()
    assert table.to_markdown().splitlines()[2].count("\\|") == 1
    assert len(table.to_markdown().splitlines()) == 5
