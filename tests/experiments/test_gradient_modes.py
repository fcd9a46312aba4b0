"""The study of gradient modes: its own arms, what it selects, and what it collects."""

import base64
import importlib
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import capsjax as cj
from capsjax.reports.themes import LIGHT
from capsjax.study.design import design
from capsjax.study.outcomes import pack, unpack

HERE = Path(__file__).resolve().parents[2] / "experiments" / "gradient_modes"


@pytest.fixture(scope="module")
def study():
    """The experiment's modules, imported as its command imports them."""
    sys.path.insert(0, str(HERE))
    importlib.import_module("finding")
    return importlib.import_module("run")


@pytest.fixture(scope="module")
def gradients(study):
    """Gradients with respect to poses, matrices and bias, by the name of the arm."""
    keys = jax.random.split(jax.random.key(0), 4)
    u, W = jax.random.normal(keys[0], (4, 6, 3)), jax.random.normal(keys[1], (6, 5, 3, 4))
    bias, direction = (
        0.1 * jax.random.normal(keys[2], (5, 4)),
        jax.random.normal(keys[3], (4, 5, 4)),
    )
    arms = {
        "stop": cj.DynamicRouting(gradient=cj.StopGradient()),
        "full": cj.DynamicRouting(gradient=cj.FullGradient()),
        "leaky stop": cj.DynamicRouting(gradient=study.modes.LeakyStopGradient()),
        "rescaled": study.modes.RescaledRouting(),
    }

    def gradient(routing):
        def total(u, W, bias):
            return jnp.sum(direction * routing(cj.predict(u, W), params={"bias": bias}).pose)

        return jax.tree.map(np.asarray, jax.value_and_grad(total, (0, 1, 2))(u, W, bias))

    return {name: gradient(routing) for name, routing in arms.items()}


def test_every_arm_computes_the_same(gradients):
    values = [value for value, _ in gradients.values()]
    np.testing.assert_allclose(values, values[0], rtol=1e-6)


def test_the_leaky_stop_leaks_through_the_bias_alone(gradients):
    (_, leaky), (_, stop), (_, full) = (gradients[name] for name in ("leaky stop", "stop", "full"))
    for ours, theirs in zip(leaky, (*stop[:2], full[2]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.linalg.norm(full[2] - stop[2]) > 0.1 * np.linalg.norm(full[2])


def test_the_rescaled_gradient_has_the_direction_of_stop_and_the_length_of_full(gradients):
    (_, ours), (_, stop), (_, full) = (gradients[name] for name in ("rescaled", "stop", "full"))
    for rescaled, held, live in zip(ours, stop, full, strict=True):
        ratio = np.linalg.norm(live) / np.linalg.norm(held)
        np.testing.assert_allclose(rescaled, ratio * held, rtol=1e-5, atol=1e-6)
        assert abs(ratio - 1) > 0.05


def test_a_gradient_of_zeros_stays_zero(study):
    np.testing.assert_array_equal(study.modes._as_long_as(jnp.zeros(3), jnp.ones(3)), 0)


def test_every_set_has_the_planned_arms(study):
    rates = dict.fromkeys(cj.load_config(study.STUDY).compare.arms, 0.003)
    for name, entry in study.read_sets().items():
        config = study.study_config(entry, rates)
        found = design(config)
        assert found.reference == "full", name
        assert config.seed == entry.get("seed", 100), name
        assert config.compare.seeds == entry["seeds"], name
        assert {arm.arm for arm in found.arms.values()} == set(entry.get("arms", rates)), name
        assert study.selection_config(entry).seed == 800


def _run(arm, seed, error, margin):
    line = {"error": error, "margin": margin}
    return {"arm": arm, "seed": seed, "state": "done", "validation": line}


def test_rates_are_selected_by_validation_loss(study):
    found = study.select(
        [
            _run("full, rate=0.003", 800, 0.01, 0.5),
            _run("full, rate=0.003", 801, 0.01, 0.2),
            _run("full, rate=0.009", 800, 0.02, 0.3),
            _run("full, rate=0.009", 801, 0.02, 0.3),
            _run("stop, rate=0.003", 800, 0.04, 0.1),
            _run("stop, rate=0.003", 801, 0.02, 0.3),
            _run("stop, rate=0.009", 800, 0.03, 0.4),
            _run("stop, rate=0.009", 801, 0.03, 0.1),
        ]
    )
    assert found["rates"] == {"full": 0.009, "stop": 0.003}
    assert found["margin"] == 0.2  # a tenth of 2 %
    failed = _run("full, rate=0.009", 800, 0.0, 0.0) | {"state": "failed"}
    with pytest.raises(SystemExit, match="full: runs of the selection failed at every rate"):
        study.select([failed])
    found = study.select([_run("full, rate=0.003", 800, 0.021, 0.2), failed])
    assert (found["rates"], found["margin"]) == ({"full": 0.003}, 0.25)


def test_a_set_from_selection_to_results(study, tmp_path, monkeypatch):
    tree = yaml.safe_load((HERE.parents[1] / "configs" / "smoke.yaml").read_text())
    arms = {"full": {}, "leaky stop": {"model.routing.gradient": {"kind": "leaky_stop"}}}
    tree["compare"] = {"arms": arms, "reference": "full", "gradient_points": 2, "timing_rounds": 3}
    tree["optimiser"]["schedule"] = {"kind": "cosine", "rate": 0.01}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(study, "STUDY", tmp_path / "study.yaml")
    monkeypatch.setattr(study, "RATES", (0.001, 0.01))
    monkeypatch.setattr(study, "SELECTION_SEEDS", 1)
    entry = {"seeds": 2, "overrides": {"training": {"epochs": None, "steps": 4}}}
    monkeypatch.setattr(sys, "argv", ["run.py", "digits", "--out", str(tmp_path / "runs")])
    study.run("digits", entry, tmp_path / "runs", 1, tmp_path, seeds=1)  # where time is short
    results = tmp_path / "results" / "digits"
    first = yaml.safe_load((results / "runs.json").read_text())
    assert [record["seed"] for record in first] == [100, 100]
    study.run("digits", entry, tmp_path / "runs", 2, tmp_path)  # in processes, which know its arms
    records = yaml.safe_load((results / "runs.json").read_text())
    assert [(record["arm"], record["seed"]) for record in records] == [
        (arm, seed) for seed in (100, 101) for arm in ("full", "leaky stop")
    ]
    for record in records:
        assert unpack(record["wrong"], 500).mean() == pytest.approx(record["test"]["error"])
    assert not any(str(tmp_path) in path.read_text() for path in results.iterdir())
    assert records[:2] == first
    assert "leaky stop" in (tmp_path / "runs" / "digits" / "report.html").read_text("utf-8")
    # How long one process took for all that was trained, and the margin of the selection in the report.
    took = json.loads((results / "environment.json").read_text())["run_seconds"]
    assert 0 < took < 600
    chosen = json.loads((results / "selection.json").read_text())
    assert (
        yaml.safe_load((results / "config.yaml").read_text())["compare"]["margin"]
        == chosen["margin"]
    )
    written = (results / "selection.json").stat().st_mtime_ns
    study.run("digits", entry, tmp_path / "runs", 1, tmp_path)  # finished: nothing is run again
    assert (results / "selection.json").stat().st_mtime_ns == written


def test_gradients_are_averaged_over_seeds(study, tmp_path):
    (tmp_path / "gradients.csv").write_text(
        "mode,seed,epoch,group,cosine\n"
        "full,100,0,all,0.5\nfull,101,0,all,0.7\nfull,100,0,stem,0.1\nfull,100,4,all,0.9\n"
        "fewer,100,0,all,0.3\n"
    )
    (tmp_path / "couplings.csv").write_text(
        "mode,seed,epoch,layer,iteration,entropy\n"
        "full,100,0,classes,1,2.3\nfull,100,0,classes,3,2.1\nfull,101,0,classes,3,2.2\n"
        "full,100,4,classes,3,2\nuniform,100,0,classes,3,2.3\n"
        "fewer,100,0,classes,1,2.3\nfewer,100,0,classes,2,2.25\n"  # its own last iteration
    )
    assert study.gradients(tmp_path) == [
        {"arm": "fewer", "epoch": 0, "cosine": 0.3, "entropy": 2.25},
        {"arm": "full", "epoch": 0, "cosine": 0.6, "entropy": 2.15},
        {"arm": "full", "epoch": 4, "cosine": 0.9, "entropy": 2.0},
    ]


@pytest.fixture
def measured(study, tmp_path, monkeypatch):
    """Raw results of two sets that are made up, of which one has a failed run and one has grids of r."""
    finding = sys.modules["finding"]
    monkeypatch.setattr(finding, "HERE", tmp_path)
    monkeypatch.setattr(finding, "RESULTS", tmp_path / "results")
    entries = {"digits": {"seeds": 4}, "usps": {"seeds": 3}}
    steps = {"overrides": {"training.steps": 1000}}
    entries["digits_iterations"] = {"seeds": 3, "iterations": [2], "rates_of": "digits"}
    exchanged = {"stop": 0.001, "full": 0.003}
    entries["usps_rates"] = {"seeds": 3, "rates_of": "usps", "rates": exchanged}
    entries = {name: entry | steps for name, entry in entries.items()}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    draw = np.random.default_rng(0)
    count = {
        "uniform": 30,
        "stop": 20,
        "full": 10,
        "stop, num_iters=2": 16,
        "full, num_iters=2": 12,
    }
    for place, name in enumerate(entries):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        runs = []
        for seed in range(100, 104):
            for arm in [
                arm for arm in count if ("num_iters" in arm) == ("iterations" in entries[name])
            ]:
                wrong = np.arange(1000) < count[arm] + draw.integers(0, 4)
                test = {
                    "error": wrong.mean(),
                    "margin": wrong.mean(),
                    "entropy": 2.3,
                    "examples": 1000.0,
                }
                run = {
                    "arm": arm,
                    "seed": seed,
                    "state": "done",
                    "test": test,
                    "wrong": pack(wrong),
                }
                runs.append(run)
        if name == "usps":
            runs[-1] = {"arm": "full", "seed": 103, "state": "failed"}
        (folder / "runs.json").write_text(json.dumps(runs))
        points = [
            {
                "arm": "full",
                "epoch": epoch,
                "entropy": 2.3 - epoch / 100 - place / 1000,
                "cosine": 0.9 - epoch / 10 - place / 100,
            }
            | {"norm_ratio": 0.5, "response_cosine": 0.25, "response_norm_ratio": 0.75}
            | {
                "share": 0.6,
                "example_cosine": 0.95 - epoch / 10 - place / 100,
                "example_share": 0.4,
            }
            for epoch in range(3)
        ]
        (folder / "gradients.json").write_text(json.dumps(points))
        chosen = {"rates": {"stop": 0.003, "full": 0.001}, "margin": 0.1}
        if name in ("digits", "usps"):
            (folder / "selection.json").write_text(json.dumps(chosen | {"measured": {}}))
        took = {"run_seconds": 1800} if name == "digits" else {}
        (folder / "environment.json").write_text(json.dumps(took))
    return finding


def test_the_tables_say_what_the_raw_results_say(measured):
    found = measured.read("digits")
    stop, full = found.errors["stop"], found.errors["full"]
    assert found.seeds == (100, 101, 102, 103)
    np.testing.assert_allclose(stop, 100 * found.wrong["stop"].mean(-1))
    said = measured.tables()
    assert (
        f"| stop | {stop.mean():.2f} ± {stop.std(ddof=1):.2f} | {(stop - full).mean():+.2f} ("
        in said
    )
    # Only seeds that every arm has.
    assert measured.read("usps").seeds == (100, 101, 102)
    assert "| USPS | 3 (3) |" in said
    assert "Failed runs: 1." in said
    assert "| digits, 8×8 | 2 |" in said
    # Beside the iterations before, paired by the seeds that both have.
    grid = measured.read("digits_iterations").errors
    change = (stop - full) - (grid["stop, num_iters=2"] - grid["full, num_iters=2"])
    row = next(line for line in said.splitlines() if line.startswith("| digits, 8×8 | 3 |"))
    assert row.split(" | ")[-1].startswith(f"{change.mean():+.2f} (")
    # At a rate, the arm that selection gave it beside the one that has it when they are exchanged.
    lower = measured.read("usps_rates").errors["stop"][:3], measured.read("usps").errors["full"]
    means = [errors.mean() for errors in lower]
    row = f"| USPS | 0.001 | 3 | {means[0]:.2f} | {means[1]:.2f} | {means[0] - means[1]:+.2f} ("
    assert row in said
    assert said.count("| USPS | 0.003 | ") == 1
    assert measured.chapter()["rates"].count("| USPS | 0.003 | 3 |") == 1
    planned = (measured.read("usps").errors[arm] for arm in ("stop", "full"))
    more = np.subtract(*planned).mean() - (means[0] - means[1])
    line = next(line for line in said.splitlines() if line.startswith("| USPS | 0.001"))
    assert line.split(" | ")[-1].startswith(f"{more:+.2f} (")
    assert "Over the 2 sets" in said
    # Four runs of each of three arms at 1,000 steps; how long they took is known of one set.
    assert "| digits, 8×8 | 12 | 12,000 | 0.5 |" in said
    assert "| USPS, rates exchanged | 12 | 12,000 | not kept |" in said
    gain = found.errors["uniform"].mean()
    assert f"| {(gain - stop.mean()) / (gain - full.mean()):.2f} (" in said


def test_no_difference_is_negative_zero(measured):
    found = measured.paired_difference(np.array([1.0, 1.001, 0.99]), np.array([1.001, 1.0, 0.9925]))
    assert measured.between(found, 1) == "+0.0 (+0.0 to +0.0)"
    assert measured.between(found._replace(low=-0.26, high=0.31), 1) == "+0.0 (-0.3 to +0.3)"


def test_the_chapter_has_the_losses_of_every_set(measured):
    found = measured.read("digits")
    difference = 1000 * (found.losses["stop"] - found.losses["full"])
    said = "\n".join(measured.chapter().values())
    assert "| set | full, 10⁻³ | uniform minus full | stop minus full |" in said
    assert f"| digits, 8×8 | {1000 * found.losses['full'].mean():.1f} | " in said
    assert f" | {difference.mean():+.1f} (" in said
    assert "| digits, 8×8 | half | 2.290 | 0.80 | 0.50 | 0.60 | 0.85 | 0.40 | 0.25 | 0.75 |" in said
    assert "| digits, 8×8 | end, stop trains |" not in said  # nobody looked at it
    assert "| digits, 8×8 | end | 2.280 | 0.70 | 0.50 | 0.60 | 0.75 | 0.40 | 0.25 | 0.75 |" in said
    # Entropy falls as the cosine does, so ranks are the same; moments 1 and 2 of three grids.
    assert "| all | 9 | +1.00 | +1.00 |\n| before the first step | 3 | +1.00 |" in said
    assert "| after it | 6 | +1.00 | +1.00 |\n| at the end | 3 | " in said


@pytest.fixture
def figures(study):
    """The module that draws, imported as its command imports it."""
    return importlib.import_module("figures")


def test_the_law_is_drawn_of_every_set(measured, figures, tmp_path):
    planned = yaml.safe_load((tmp_path / "sets.yaml").read_text())
    points = measured.gradients.law_points(tmp_path / "results", planned)
    first = points[0]
    assert (first.name, first.moment) == ("digits", 0)
    assert first.departure == pytest.approx(np.log(10) - 2.3)
    assert (first.gap, first.example_gap) == pytest.approx((0.1, 0.05))
    figure = figures.law(points, LIGHT)
    drawn = [ax for ax in figure.axes if ax.get_visible()]
    titles = [ax.get_title() for ax in drawn]
    # A grid of iterations is drawn with its set: nine points of all sets, three or six and the hollow ones.
    assert titles == [
        f"{name}\n{of}"
        for of in ("all examples together", "single examples")
        for name in ("digits, 8×8", "USPS")
    ]
    counts = [sum(len(line.get_xdata()) for line in ax.lines) for ax in drawn]
    assert counts == [9 + 6 + 2, 9 + 3 + 1] * 2
    (legend,) = figure.legends
    assert "r = 2 and 5" in [text.get_text() for text in legend.get_texts()]
    alone = figures.law([point for point in points if point.name == "usps"], LIGHT)
    assert "r = 2 and 5" not in [text.get_text() for text in alone.legends[0].get_texts()]


def test_the_answer_is_drawn_of_every_set(measured, figures, tmp_path):
    sets = measured.read_all(yaml.safe_load((tmp_path / "sets.yaml").read_text()))
    cost, kept = figures.answer(sets, LIGHT).axes
    names = [label.get_text() for label in cost.get_yticklabels()]
    assert names == ["digits, 8×8 (4)", "USPS (3)", "mean over sets (random effects)"]
    values = [line.get_xdata()[0] for line in cost.lines if len(line.get_xdata()) == 1]
    found = [measured.relative(sets[name]).mean for name in ("digits", "usps")]
    np.testing.assert_allclose(values, [*found, measured.pooled(sets)[0].mean])
    gain = measured.retained_gain(*(sets["usps"].errors[a] for a in ("uniform", "stop", "full")))
    shown = [line.get_xdata()[0] for line in kept.lines if len(line.get_xdata()) == 1]
    assert any(value == pytest.approx(gain.value) for value in shown)


def test_readme_and_chapter_have_the_tables_of_the_raw_results(study):
    finding = sys.modules["finding"]
    for path, made in finding.pages().items():
        text = path.read_text(encoding="utf-8")
        assert finding.with_tables(text, made) == text


def test_sentences_say_what_the_raw_results_say(study, monkeypatch, tmp_path):
    facts = importlib.import_module("facts")
    assert facts.missing() == []
    assert facts.unfounded() == []
    # One number that is changed is noticed, and what it stands among is of no fact any more.
    fact = "a further one could lie anywhere between -8 and +14 %"
    words = facts.CHAPTER.read_text(encoding="utf-8")
    assert fact in " ".join(words.split())
    changed = tmp_path / "docs" / "stop_or_full.md"
    changed.parent.mkdir()
    changed.write_text(words.replace("between -8 and +14 %", "between -8 and +15 %"))
    monkeypatch.setattr(facts, "CHAPTER", changed)
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    told = {page: said for page, said in facts.facts().items() if page == changed}
    monkeypatch.setattr(facts, "facts", lambda: told)
    assert facts.missing() == ["docs/stop_or_full.md: between -8 and +14 %"]
    around = facts.unfounded()
    assert len(around) == 2
    assert all("anywhere between" in words or "+15 %" in words for words in around)


def test_a_row_by_hand():
    """USPS again with NumPy and whole numbers alone: difference, interval, exact p, Fieller's interval."""
    runs = json.loads((HERE / "results" / "usps" / "runs.json").read_text(encoding="utf-8"))
    seeds = sorted({run["seed"] for run in runs})
    count = {run["test"]["examples"] for run in runs}.pop()
    wrong = {
        arm: np.array(
            [
                np.unpackbits(np.frombuffer(base64.b64decode(run["wrong"]), np.uint8)).sum()
                for seed in seeds
                for run in runs
                if (run["arm"], run["seed"]) == (arm, seed)
            ]
        )
        for arm in ("uniform", "stop", "full")
    }
    points = {arm: 100 * of / count for arm, of in wrong.items()}
    assert len(seeds) == 30
    t = 2.045229642132703  # Student's, 29 degrees of freedom, 97.5 %
    gap = points["stop"] - points["full"]
    width = t * gap.std(ddof=1) / np.sqrt(30)
    row = f"{gap.mean():+.2f} ({gap.mean() - width:+.2f} to {gap.mean() + width:+.2f})"
    # How many of the 2^30 sign flips have each sum, seed by seed.
    flips = {0: 1}
    for difference in (wrong["stop"].astype(int) - wrong["full"].astype(int)).tolist():
        more: dict[int, int] = {}
        for total, ways in flips.items():
            for sign in (1, -1):
                at = total + sign * difference
                more[at] = more.get(at, 0) + ways
        flips = more
    seen = abs(int(wrong["stop"].sum()) - int(wrong["full"].sum()))
    p = sum(ways for total, ways in flips.items() if abs(total) >= seen) / 2**30
    # Fieller: all ratios r at which uniform - stop - r (uniform - full) is not told from 0.
    saved, gain = points["uniform"] - points["stop"], points["uniform"] - points["full"]
    ratios = np.linspace(0, 2, 200_001)
    variance = (
        saved.var(ddof=1) - 2 * ratios * np.cov(saved, gain)[0, 1] + ratios**2 * gain.var(ddof=1)
    ) / 30
    kept = ratios[(saved.mean() - ratios * gain.mean()) ** 2 <= t**2 * variance]
    told = f"{saved.mean() / gain.mean():.2f} ({kept[0]:.2f} to {kept[-1]:.2f})"
    words = (HERE.parents[1] / "docs" / "stop_or_full.md").read_text(encoding="utf-8")
    (line,) = (line for line in words.splitlines() if line.startswith("| USPS | 30 (30)"))
    assert f"| {row} | {p:.2g} |" in line
    assert f"| {told} |" in line
