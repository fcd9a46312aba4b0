"""Reports are what the raw numbers say, on pages that need nothing beside them."""

import base64
import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from capsjax.checks import UserError
from capsjax.reports import page
from capsjax.reports.comparison import (
    format_interval,
    paired_difference,
    percent,
    read_comparison,
    results_table,
    signed,
)
from capsjax.reports.comparison_page import report_comparison
from capsjax.reports.report import report_run
from tests.reports.pages import check_alone, check_picture

MODES = ("uniform", "stop", "truncated", "full")


@pytest.fixture(scope="module")
def raw(compared):
    return json.loads((compared.folder / "comparison.json").read_text())


def test_the_table_is_the_raw_numbers(compared, raw):
    rows = compared.tables[0].rows
    assert [row[0] for row in rows] == list(MODES)
    full, base = np.array(raw["test_error"]["full"]), raw["cost"]["full"]
    for row in rows:
        errors, cost = np.array(raw["test_error"][row[0]]), raw["cost"][row[0]]
        assert row[3] == f"{100 * errors.mean():.2f} ± {100 * errors.std(ddof=1):.2f}"
        assert row[4] == f"{1000 * np.median(cost['seconds']):.2f}"
        assert row[6] == f"{cost['temp_bytes'] / 1e6:.2f}"
        if row[0] == "full":
            assert (row[1], row[2], row[5]) == ("—", "—", "1")
            continue
        found = stats.ttest_rel(errors, full)
        low, high = found.confidence_interval(0.95)
        assert row[1] == f"{100 * (errors - full).mean():+.2f}"
        same = "equal in both seeds" if low == high == 0 else f"{100 * low:+.2f} in both seeds"
        apart = f"{100 * low:+.2f} to {100 * high:+.2f}"
        assert row[2] == (same if high - low < 1e-12 else apart)
        ratios = np.array(cost["seconds"]) / np.array(base["seconds"])
        low, high = np.quantile(ratios, [0.25, 0.75])
        assert row[5] == f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})"
    headings = compared.tables[0].headings
    assert headings[1:4] == ("minus full, points", "95 % interval", "test error, %")
    assert headings[5] == "of full's time (quartiles)"
    assert "2 seeds" in compared.tables[0].title
    assert "r = 3" in compared.tables[0].title


def test_the_table_of_alignment_is_the_raw_numbers(compared, raw):
    table = compared.tables[3]
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


def in_order(text, *parts):
    """Whether texts stand one after another, each once."""
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert [text.count(part) for part in parts] == [1] * len(parts)


def test_the_page_answers_first_and_ends_with_what_it_was_made_of(compared):
    text = re.sub(r"base64,[^\"]+", "", compared.page.read_text("utf-8"))
    in_order(
        text,
        "2 seeds are too few to say whether stop differs from full",
        '<h2 id="results">',
        '<h2 id="figures">',
        'alt="Mean test error in percent',  # dots
        'alt="Curves of error, %',
        'alt="Time and memory of a step',
        'alt="cosine of stop and full gradient, ',
        'alt="cosine of stop and full: ',
        '<h2 id="support">Where support comes from',
        '<h2 id="confusion">Confusion matrices',
        '<h2 id="limits">What this does not show',
        "What each arm changes, and how it begins</span>",
        "<summary>The whole configuration</summary>",
        '<h2 id="machine">Machine and versions',
        '<h2 id="raw">Raw data',
    )
    assert "<details open" not in text
    markdown = (compared.folder / "report.md").read_text("utf-8")
    in_order(
        markdown,
        "2 seeds are too few",
        "**Gradient modes, r = 3",
        "## Where support comes from",
        "## What this does not show",
        "**What each arm changes, and how it begins**",
        "| truncated | model.routing.gradient: truncated | none | same |",
        "**What it ran on, with which versions**",
        "## Raw data",
    )
    for name in ("comparison.json", "gradients.csv", "couplings.csv", "config.yaml"):
        assert f'<a href="{name}">' in text
        assert f"[{name}]({name})" in markdown


def test_the_page_stands_alone_and_holds_the_tables(compared):
    page = check_alone(compared.page, 14)
    rows = [list(row) for table in compared.tables for row in (table.headings, *table.rows)]
    found = [row for row in page.cells if row]
    assert found[: len(rows)] == rows
    assert found[len(rows) : len(rows) + 2] == [
        ["arm", "changes", "parameters of its own", "batches"],
        ["uniform", "model.routing: uniform", "none", "same"],
    ]
    environment = json.loads((compared.folder / "environment.json").read_text())
    machine = dict(found[len(rows) + 6 :])
    assert list(machine) == list(environment)
    assert machine["python"] == environment["python"]
    assert f"jax {environment['packages']['jax']}" in machine["packages"]
    assert "cpu" in machine["devices"]
    text = compared.page.read_text("utf-8")
    assert "num_iters: 3" in text  # the configuration
    assert "paired by seed" in text
    for mode in MODES:  # the words are told, each with its colour
        assert f'mode-{mode}" aria-hidden="true"></span>{mode}</dt><dd>' in text
    assert "<dt>r</dt>" in text


def test_pictures_within_the_page_are_short_and_the_same(compared):
    """A page can be sent: each figure takes less than its file, and all letters stand where they did."""
    text = compared.page.read_text("utf-8")
    assert len(text) < 1_200_000
    light = base64.b64decode(re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)[1])
    root = ET.fromstring(light)
    names = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(set(names)) == len(names)
    svg = light.decode()
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert wanted <= {*names}
    whole = page._shortened(
        '<svg><!-- x --><g id="text_1"> <path d="M 0.123456 1 \nL 2 3 \nz " id="DejaVu-1" '
        'transform="scale(0.015625)"/><use xlink:href="#DejaVu-1" transform="translate(1.2355 0)"/>'
        '<use xlink:href="#DejaVu-1" transform="translate(1.5 2) scale(0.7)"/></g></svg>'
    )
    assert whole == (
        '<svg><g><path d="M0.12 1L2 3z" id="i0" transform="scale(0.015625)"/><use href="#i0" x="1.24"/>'
        '<use href="#i0" transform="translate(1.5 2) scale(0.7)"/></g></svg>'
    )


def test_markdown_and_picture_lie_beside_the_page(compared):
    text = (compared.folder / "report.md").read_text("utf-8")
    for table in compared.tables:
        assert table.to_markdown() in text
    assert "![figures](comparison.png)" in text
    check_picture((compared.folder / "comparison.png").read_bytes(), (700, 1400))


def test_every_figure_and_table_is_a_file_of_its_own(compared):
    names = [
        "error",
        "test_error",
        "cost",
        "cosine",
        "norm_ratio",
        "entropy",
        "law",
    ]
    names += ["optimiser_cosine", "optimiser_norm_ratio", "couplings"]
    names += [f"confusion_{mode}" for mode in MODES]
    assert "full, test, 2 seeds" in compared.page.read_text("utf-8")
    folder = compared.folder / "figures"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("svg", "pdf", "png")
    }
    for name in names:
        check_picture((folder / f"{name}.png").read_bytes(), (300, 500))
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (folder / f"{name}.svg").read_text("utf-8")
    written = ("results", "evidence", "evidence_showing", "alignment")
    assert len(compared.tables) == len(written)
    told = (compared.folder / "tables" / "arms.csv").read_text("utf-8")
    assert "stop,model.routing.gradient: stop,none,same" in told
    for name, table in zip(written, compared.tables, strict=True):
        text = (compared.folder / "tables" / f"{name}.csv").read_text("utf-8")
        assert [tuple(row) for row in csv.reader(io.StringIO(text))] == [
            table.headings,
            *table.rows,
        ]
        latex = (compared.folder / "tables" / f"{name}.tex").read_text("utf-8")
        assert latex == table.to_latex()


def test_a_report_reads_every_file_once(compared):
    found = {name: n for name, n in compared.read.items() if not name.startswith("figures/")}
    kinds = {name.rpartition("/")[2]: n for name, n in found.items()}
    asked = ("config.yaml", "environment.json")  # of whether there is support to be seen
    runs = [run for run in found if run.startswith("runs/") and not run.endswith(asked)]
    assert len(runs) == 2 * 8  # metrics and predictions of four modes and two seeds
    assert {found[run] for run in runs} == {1}
    assert {kinds[n] for n in ("gradients.csv", "examples.csv", "couplings.csv")} == {1}
    assert kinds["comparison.json"] == 1


def test_the_metrics_of_every_run_are_in_one_file(compared, raw):
    with (compared.folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for mode in MODES:
        tested = [row for row in rows if row["mode"] == mode and row["split"] == "test"]
        assert [row["seed"] for row in tested] == ["0", "1"]
        assert [float(row["error"]) for row in tested] == raw["test_error"][mode]
    path = compared.folder / "runs" / "stop-seed1" / "metrics.jsonl"
    chosen = [row for row in rows if (row["mode"], row["seed"]) == ("stop", "1")]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((row["split"], int(row["step"]), float(row["loss"])) for row in chosen) == sorted(
        (line["split"], line["step"], line["loss"]) for line in lines
    )


def test_drawing_again_trains_nothing_and_gives_the_same_bytes(compared):
    made = ("report.html", "report.md", "comparison.png", "metrics.csv")
    folders = {compared.folder / "figures", compared.folder / "tables"}
    files = [path for path in compared.folder.rglob("*") if path.is_file()]
    drawn = {p: p.read_bytes() for p in files if p.name in made or p.parent in folders}
    kept = {path: path.stat().st_mtime_ns for path in files if path not in drawn}
    assert len(drawn) == 4 + 3 * 14 + 2 * 5
    assert report_comparison(compared.folder)[0] == compared.page
    assert {path: path.read_bytes() for path in drawn} == drawn
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_comparison_whose_runs_are_gone_is_reported_without_curves(compared, tmp_path):
    for name in ("comparison.json", "config.yaml", "environment.json"):
        shutil.copy(compared.folder / name, tmp_path)
    page, shown = report_comparison(tmp_path)
    assert shown == compared.tables
    check_alone(page, 4)
    assert "Curves leave out 8 of 8 runs" in page.read_text("utf-8")


def test_the_page_of_a_run(compared):
    folder = compared.folder / "runs" / "full-seed0"
    page, (table, *others) = report_run(folder)
    titles = [
        "Layers, 12 test images",
        "Couplings by iteration, 12 test images",
        "Evaluations",
        "By class, test split",
        "Confused most often",
    ]
    assert [other.title for other in others] == titles
    # Three curves, confusion, calibration, reconstructions, layers, couplings by iteration.
    found = check_alone(page, 8)
    text = re.sub(r'base64,[^"]+', "", page.read_text("utf-8"))
    in_order(
        text,
        'alt="loss against the step',
        'alt="Confusion matrix of 500 images',
        "12 test images and their reconstructions, wrong ones first; 0 of them classified correctly",
        'alt="Activations of 3 layers',
        'alt="Distance of couplings of layer classes from the first',
        '<h2 id="limits">What this does not show',
        "This is one run.",
        "<summary>The whole configuration</summary>",
        '<h2 id="machine">',
        '<h2 id="raw">Raw data',
        '<a href="metrics.jsonl">',
        '<a href="evaluations/test-step24.npz">',
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train"][-5:]
    assert [line["step"] for line in trained] == [8, 12, 16, 20, 24]
    error, loss = (np.mean([line[name] for line in trained]) for name in ("error", "loss"))
    last = {line["split"]: line for line in lines}
    assert list(table.rows) == [
        ("train", "8 to 24", "5 logged batches, 640 images", f"{100 * error:.2f}", f"{loss:.4f}"),
        *(
            (s, "24", f"all {n} images", f"{100 * last[s]['error']:.2f}", f"{last[s]['loss']:.4f}")
            for s, n in (("validation", 200), ("test", 500))
        ),
    ]
    rows = [list(row) for row in (table.headings, *table.rows)]
    assert [row for row in found.cells if row][: len(rows)] == rows
    assert "mean over the logged batches" in page.read_text("utf-8")
    check_picture((folder / "curves.png").read_bytes(), (300, 600))
    check_picture((folder / "reconstructions.png").read_bytes(), (200, 600))
    assert (folder / "figures" / "reconstructions.pdf").exists()
    assert (folder / "metrics.csv").read_text().startswith("split,step,entropy,error,")


def test_a_report_without_its_data_leaves_out_reconstructions_and_says_so(compared, monkeypatch):
    def lost(*_):
        raise UserError("got no data, expected some")

    monkeypatch.setattr("capsjax.reports.shown.load_data", lost)
    folder = compared.folder / "runs" / "stop-seed0"
    page, _ = report_run(folder)
    check_alone(page, 5)
    assert "Test images, and what the network makes of them, are left out" in page.read_text(
        "utf-8"
    )
    assert "got no data, expected some" in page.read_text("utf-8")
    with pytest.raises(UserError, match="got no data"):
        report_run(folder, data={"what": "was given"})


def test_what_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"comparison.json: got no such file"):
        report_comparison(tmp_path)
    with pytest.raises(UserError, match=r"got a directory without config.yaml"):
        report_run(tmp_path)


def test_a_single_seed_has_no_interval(compared, raw):
    comparison = read_comparison(compared.folder)._replace(
        seeds=[0], errors={mode: errors[:1] for mode, errors in raw["test_error"].items()}
    )
    table = results_table(comparison)
    assert "1 seed:" in table.title
    assert {row[2] for row in table.rows} == {"—"}
    assert not any("±" in row[3] for row in table.rows)


def test_the_table_names_a_routing_other_than_by_agreement(compared):
    comparison = read_comparison(compared.folder)
    assert results_table(comparison, "em").title.startswith("Gradient modes, routing em, r = 3, ")
    assert results_table(comparison).title.startswith("Gradient modes, r = 3, ")


def test_the_table_is_shown_whole_on_a_terminal_of_80_columns(compared):
    table = compared.tables[0]
    parts = table.within(80)
    assert len(parts) == 2
    for part in parts:
        stream = io.StringIO()
        Console(file=stream, width=80).print(part.to_rich())
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        assert sum(line.startswith("│") for line in lines) == len(MODES)  # no row is broken
        assert [row[0] for row in part.rows] == list(MODES)
        for cell in (*part.headings, *(cell for row in part.rows for cell in row)):
            assert cell in stream.getvalue()
    assert parts[0].headings + parts[1].headings[1:] == table.headings
    assert table.within(160) == [table]


@pytest.mark.parametrize(
    ("errors", "full", "text"),
    [
        ([0.02, 0.03, 0.04], [0.02, 0.03, 0.04], "equal in all 3 seeds"),
        ([0.04, 0.05], [0.02, 0.03], "+2.00 in both seeds"),
        ([0.02, 0.04], [0.02, 0.03], "-5.85 to +6.85"),
        ([0.02], [0.02], "—"),
    ],
)
def test_equal_differences_are_told_in_words(errors, full, text):
    difference = paired_difference(errors, full)
    assert format_interval(difference, len(errors)) == text


@pytest.mark.parametrize(
    ("write", "share", "text"),
    [
        (percent, 0.12345, "12.35"),
        (signed, 0.001, "+0.10"),
        (signed, -0.25, "-25.00"),
    ],
)
def test_shares_are_written_in_percent(write, share, text):
    assert write(share) == text
