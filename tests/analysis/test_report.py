"""Reports are what the raw numbers say, on pages that need nothing beside them."""

import base64
import html.parser
import io
import json
import re

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from capsjax.analysis import tables
from capsjax.analysis.report import report_comparison, report_run
from capsjax.checks import UserError

MODES = ("uniform", "stop", "truncated", "full")


class Page(html.parser.HTMLParser):
    """Collect tags, what they point to, and the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.cells, self.row = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [
            value for name, value in attrs if name in ("src", "href", "action", "data")
        ]
        if tag == "tr":
            self.cells.append([])
        self.row = tag in ("td", "th")

    def handle_data(self, data):
        if self.row:
            self.cells[-1].append(data)

    def handle_endtag(self, tag):
        self.row = False


def check_picture(content, least=(300, 600)):
    """A picture is large enough, has colours, and is not mostly of one."""
    pixels = matplotlib.image.imread(io.BytesIO(content))[..., :3]
    assert pixels.shape[0] >= least[0]
    assert pixels.shape[1] >= least[1]
    some = (pixels[::3, ::3] * 255).astype(int).reshape(-1, 3)
    assert len({tuple(colour) for colour in some.tolist()}) > 50
    assert 0.01 < np.mean(pixels.min(-1) < 0.95) < 0.9


def check_alone(path, pictures):
    """A page points to nothing but pictures that are in it."""
    text = path.read_text("utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|url\(|@import", text)
    assert len(page.sources) == pictures
    for source in page.sources:
        check_picture(base64.b64decode(source.split(",")[1]), (150, 600))
    return page


@pytest.fixture(scope="module")
def raw(compared):
    return json.loads((compared.folder / "comparison.json").read_text())


def test_the_table_is_the_raw_numbers(compared, raw):
    rows = compared.tables[0].rows
    assert [row[0] for row in rows] == list(MODES)
    full, base = np.array(raw["test_error"]["full"]), raw["cost"]["full"]
    for row in rows:
        errors, cost = np.array(raw["test_error"][row[0]]), raw["cost"][row[0]]
        assert row[1] == f"{100 * errors.mean():.2f} ± {100 * errors.std(ddof=1):.2f}"
        assert row[4] == f"{1000 * np.median(cost['seconds']):.2f}"
        assert row[6] == f"{cost['temp_bytes'] / 1e6:.2f}"
        if row[0] == "full":
            assert (row[2], row[3], row[5]) == ("—", "—", "1")
            continue
        found = stats.ttest_rel(errors, full)
        low, high = found.confidence_interval(0.95)
        assert row[2] == f"{100 * (errors - full).mean():+.2f}"
        assert row[3] == f"{100 * low:+.2f} to {100 * high:+.2f}"
        ratios = np.array(cost["seconds"]) / np.array(base["seconds"])
        assert row[5] == f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
    assert "2 seeds" in compared.tables[0].title
    assert "r = 3" in compared.tables[0].title


def test_the_table_of_alignment_is_the_raw_numbers(compared, raw):
    table = compared.tables[1]
    assert table.headings == ("parameters", "epoch 0", "epoch 3")
    assert [row[0] for row in table.rows] == ["all", "classes", "decoder", "primary", "stem"]
    for row in table.rows:
        for epoch, cell in zip((0, 3), row[1:], strict=True):
            chosen = [
                record
                for record in raw["alignment"]
                if (record["group"], record["epoch"], record["mode"]) == (row[0], epoch, "full")
            ]
            assert len(chosen) == 2
            cosine, ratio = (
                np.mean([r[name] for r in chosen]) for name in ("cosine", "norm_ratio")
            )
            assert cell == f"{cosine:.4f}, {ratio:.3f}"


def test_the_page_stands_alone_and_holds_the_tables(compared):
    page = check_alone(compared.page, 1)
    rows = [list(row) for table in compared.tables for row in (table.headings, *table.rows)]
    assert [row for row in page.cells if row] == rows
    text = compared.page.read_text("utf-8")
    assert "num_iters: 3" in text  # the configuration
    assert "paired by seed" in text


def test_markdown_and_picture_lie_beside_the_page(compared):
    text = (compared.folder / "report.md").read_text("utf-8")
    for table in compared.tables:
        assert table.to_markdown() in text
    assert "![figures](comparison.png)" in text
    check_picture((compared.folder / "comparison.png").read_bytes(), (700, 1400))


def test_drawing_again_trains_nothing_and_gives_the_same_page(compared):
    kept = {p: p.stat().st_mtime_ns for p in compared.folder.rglob("*") if "report" not in p.name}
    before = compared.page.read_bytes()
    page, _ = report_comparison(compared.folder)
    assert page.read_bytes() == before
    del kept[compared.folder / "comparison.png"]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_the_page_of_a_run(compared):
    folder = compared.folder / "runs" / "full-seed0"
    page, (table,) = report_run(folder)
    found = check_alone(page, 2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {line["split"]: line for line in lines}
    assert list(table.rows) == [
        (split, "24", f"{100 * last[split]['error']:.2f}", f"{last[split]['loss']:.4f}")
        for split in ("train", "validation", "test")
    ]
    assert [row for row in found.cells if row] == [
        list(row) for row in (table.headings, *table.rows)
    ]
    check_picture((folder / "curves.png").read_bytes(), (300, 600))
    check_picture((folder / "reconstructions.png").read_bytes(), (200, 600))


def test_what_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"comparison.json: got no such file"):
        report_comparison(tmp_path)
    with pytest.raises(UserError, match=r"got a directory without config.yaml"):
        report_run(tmp_path)


def test_a_single_seed_has_no_interval(compared, raw):
    comparison = tables.read_comparison(compared.folder)._replace(
        seeds=[0], errors={mode: errors[:1] for mode, errors in raw["test_error"].items()}
    )
    table = tables.results_table(comparison)
    assert "1 seed:" in table.title
    assert {row[3] for row in table.rows} == {"—"}
    assert not any("±" in row[1] for row in table.rows)


def test_one_table_in_three_forms():
    table = tables.Table("A <b>", ("x", "y & z"), (("1", "2 < 3"), ("4", "[red]5")))
    assert table.to_markdown() == (
        "**A <b>**\n\n| x | y & z |\n| --- | ---: |\n| 1 | 2 < 3 |\n| 4 | [red]5 |\n"
    )
    assert "2 &lt; 3" in table.to_html()
    assert "<b>" not in table.to_html()
    stream = io.StringIO()
    Console(file=stream, width=80).print(table.to_rich())
    for part in ("x", "y & z", "2 < 3"):
        assert part in stream.getvalue()


@pytest.mark.parametrize(
    ("write", "share", "text"),
    [
        (tables.percent, 0.12345, "12.35"),
        (tables.signed, 0.001, "+0.10"),
        (tables.signed, -0.25, "-25.00"),
    ],
)
def test_shares_are_written_in_percent(write, share, text):
    assert write(share) == text
