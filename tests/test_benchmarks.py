"""The benchmark scripts: rounds that interleave processes, and tables that divide the right numbers."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """Import from the folder, as the scripts do from each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in (
        "interleave",
        "report",
        "run",
        "figures",
        "gpu",
        "machine",
        "votes",
        "convolution",
        "family",
    ):
        sys.modules.pop(name, None)


def test_rounds_go_through_every_contender_in_turn(scripts, tmp_path):
    import interleave

    sizes = {"batch": 2, "children": 4, "parents": 2, "in_dim": 2, "out_dim": 2}
    job = {"who": "ours", "work": "routing", "sizes": sizes}
    jobs = {"stop": {**job, "gradient": "stop"}, "full": {**job, "gradient": "closed_form"}}
    env = interleave.environment(str(tmp_path))
    # Flags for several fake devices would let a worker be another machine than a user's.
    env.pop("XLA_FLAGS", None)
    found = interleave.interleave(jobs, 3, env, seldom=("full",))
    assert [len(found[name]["seconds"]) for name in jobs] == [3, 2]
    assert all(seconds > 0 for name in jobs for seconds in found[name]["seconds"])
    assert found["stop"]["peak_rss_bytes"] > 1e7
    assert found["full"]["job"]["gradient"] == "closed_form"


def test_a_worker_that_fails_is_named(scripts, tmp_path):
    import interleave

    env = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    with pytest.raises(RuntimeError, match="nobody: the worker ended with 1"):
        interleave.interleave({"nobody": {"who": "nobody"}}, 1, env)


def test_workers_find_what_this_process_finds(scripts, monkeypatch):
    import interleave

    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = interleave.environment("cache")["PYTHONPATH"].split(os.pathsep)
    assert found == [str(BENCHMARKS), str(BENCHMARKS.parent), "/somewhere"]


def test_where_several_start_at_once_one_that_fails_is_left_out(scripts, capfd):
    import interleave

    env = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    with interleave.workers({"nobody": {"who": "nobody"}}, env, at_once=2) as started:
        assert not started
    assert "left out: nobody: the worker ended with 1" in capfd.readouterr().err


def test_the_table_divides_medians_and_shows_the_worst_round(scripts):
    import report

    def group(**seconds):
        return {
            name.replace("_", " "): {"seconds": list(values), "peak_rss_bytes": 10 * len(name)}
            for name, values in seconds.items()
        }

    run = {"groups": {"step, stop": group(ours=(1.0, 2.0, 9.0), pytorch=(4.0, 4.0, 10.0))}}
    assert report.ratio(run, report.TARGETS[0]) == (0.5, 0.9)
    memory = report.Target("m", "step, stop", "ours", "pytorch", None, None, "peak_rss_bytes")
    assert report.ratio(run, memory)[0] == pytest.approx(4 / 7)
    seldom = {"groups": {"step, stop": group(ours=(1.0, 2.0, 3.0), naive_flax=(40.0, 50.0))}}
    assert report.ratio(seldom, report.TARGETS[2]) == (1.5 / 45, 2 / 50)


def test_every_target_is_measured(scripts):
    import report
    import run

    groups = run.groups()
    for target in report.TARGETS:
        assert {target.ours, target.other} <= set(groups[target.group])


def test_the_matrix_rate_is_that_of_the_faster_library(scripts):
    import machine

    def product(seconds):
        return {"job": {"who": "matrix product", "size": 1000}, "seconds": seconds}

    copy = {"job": {"who": "copy", "size": 1000}, "seconds": [2.0]}
    found = {"a": product([1.0, 2.0, 3.0]), "b": product([4.0]), "copy": copy}
    run = {"groups": {"machine": found}}
    assert machine.matrix_rate(run) == 1e9
    assert machine.bandwidth(run) == 4000


SIZES = {"u": [2, 4, 5, 2, 2, 3], "W": [3, 3, 2, 4, 3, 2], "stride": 1}


class TestFamily:
    """Convolutional capsules and EM routing beside PyTorch."""

    def test_every_job_has_a_maker_and_every_ratio_its_contenders(self, scripts):
        import contenders
        import family

        groups = family.groups()
        for name, jobs in groups.items():
            assert {job["who"] for job in jobs.values()} <= set(contenders.MAKERS), name
        assert len(groups) == 2 * len(family.WINDOWS) + 2

    @pytest.mark.parametrize("formed", [False, True])
    def test_our_part_is_the_gradient_of_the_routing(self, scripts, formed):
        import family_work
        import jax
        import jax.numpy as jnp

        import capsjax as cj

        job = {"sizes": SIZES, "gradient": "stop", "share": "position", "formed": formed}
        program, (u, W, weights) = family_work.compile_windows(job)
        votes = cj.window_votes(u, W, share="position")
        assert family_work.votes_bytes(SIZES) == 4 * np.prod(votes.shape)

        def loss(u, W):
            votes = cj.window_votes(u, W, share="position")
            return jnp.sum(cj.dynamic_routing(votes).pose * weights)

        value, gradients = program(u, W, weights)
        expected, wanted = jax.value_and_grad(loss, (0, 1))(u, W)
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)
        for found, other in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(found, other, rtol=1e-3, atol=1e-4)

    def test_the_tables_divide_the_right_numbers(self, scripts):
        import family

        def took(*seconds):
            return {"seconds": list(seconds)}

        windows = {"ours": took(1.0, 2.0, 3.0), "ours, share position": took(1.0, 1.0, 1.0)}
        windows |= {"public": took(10.0, 10.0, 10.0), "careful": took(4.0, 4.0, 4.0)}
        em = {"ours, full": took(1.0), "ours, stop": took(9.0), "pytorch": took(2.0)}
        bytes_of = {"votes": 5e6} | {
            f"{gradient}, {form}": size
            for gradient, sizes in {"stop": (1e6, 4e6, 2e6), "closed_form": (3e6, 6e6, 7e6)}.items()
            for form, size in zip(family.FORMS, sizes, strict=True)
        }
        groups = {"one, stop": windows, "EM routing": em}
        time, memory = family.tables({"groups": groups, "memory": {"one": bytes_of}})
        assert time.rows[0] == (
            "one, stop",
            "0.200 (0.100 to 0.300)",
            "0.500 (0.250 to 0.750)",
            "0.100 (0.100 to 0.100)",
        )
        assert time.rows[1][:2] == ("EM routing, full", "0.500 (0.500 to 0.500)")
        assert time.rows[2][:2] == ("EM routing, stop", "4.500 (4.500 to 4.500)")
        assert memory.rows == (("one", "5", "1 / 4 = 0.25", "3 / 6 = 0.50", "2 and 7"),)

    def test_the_page_has_the_tables_of_the_raw_results(self, scripts):
        import family

        page = (BENCHMARKS.parent / "docs" / "speed.md").read_text("utf-8")
        for processor in (family.PATH, family.PATH.with_stem("family_xeon")):
            time, memory = family.tables(json.loads(processor.read_text("utf-8")))
            assert time.to_markdown().partition("\n\n")[2].strip() in page, processor
        assert memory.to_markdown() in page


class TestGpu:
    """The figures of a GPU: nothing here needs one, and nothing here is one."""

    def measured(self):
        job = {"who": "ours", "batch": 1000}
        product = {"who": "matrix product", "precision": "bfloat16", "size": 1000}
        environment = {"devices": ["a card"], "packages": {"jax": "1.2"}}
        return {
            "environment": environment,
            "torch": "3.4",
            "groups": {
                "ceilings": {
                    "slow": {"job": product, "seconds": [4.0]},
                    "fast": {"job": product, "seconds": [9.0, 1e-5, 1e-5]},
                    "TF32": {"job": {**product, "precision": "TF32"}, "seconds": [1e-9]},
                    "copy": {"job": {"who": "copy", "size": 10**9}, "seconds": [0.004]},
                },
                "step, batch 1000": {
                    "ours": {"job": job, "seconds": [0.1, 0.02, 0.01], "peak_device_bytes": 2e6},
                    "PyTorch, compiled, bfloat16": {
                        "job": job,
                        "seconds": [0.05, 0.04, 0.03],
                        "peak_device_bytes": None,
                    },
                },
            },
        }

    def test_the_tables_divide_the_right_numbers(self, scripts):
        import gpu

        ceilings, step = gpu.tables(self.measured())
        assert ceilings.title == "a card; jax 1.2, torch 3.4"
        assert ceilings.rows[1][1] == "200.0 TFLOP/s"
        assert ceilings.rows[3][1] == "2,000.0 GB/s"
        # 1000 images of 1.195 GFLOP in 20 ms are 60 TFLOP/s, of 200.
        ours = "20.000 ms", "10.000 to 100.000", "50,000", "0.50", "2 MB", "30 %"
        assert step.rows[0] == ("ours", *ours)
        assert step.rows[1][5] == ""

    def test_files_of_one_machine_are_joined_and_others_refused(self, scripts, tmp_path):
        import gpu

        whole = self.measured()
        paths = []
        for name, found in whole["groups"].items():
            paths.append(tmp_path / f"{len(paths)}.json")
            paths[-1].write_text(json.dumps({**whole, "groups": {name: found}}))
        joined = gpu.merged(paths)
        assert joined == whole
        gpu.show(joined, tmp_path / "all.json")
        assert "| ours | 20.000 ms |" in (tmp_path / "all.md").read_text()
        whole["environment"]["devices"] = ["another"]
        paths[0].write_text(json.dumps(whole))
        with pytest.raises(SystemExit, match="of several machines"):
            gpu.merged(paths)

    def test_every_group_has_what_it_is_measured_against(self, scripts):
        import gpu

        groups = gpu.groups(128, "cuda", 50, "mnist_sabour2017")
        assert list(groups) == ["step, batch 128", "routing, batch 128", "forward, batch 128"]
        for name, jobs in groups.items():
            assert gpu.REFERENCE in jobs or "PyTorch, compiled, full" in jobs
            assert all(job["work"] == name.split(",")[0] for job in jobs.values())
        routing = groups["routing, batch 128"]
        assert routing["capsjax, dense votes, closed_form"]["votes"] == "dense"

    def test_our_contender_takes_precision_and_times(self, scripts, tmp_path):
        import gpu
        import interleave

        jobs = gpu.groups(4, "cpu", 3, "smoke")["step, batch 4"]
        chosen = {name: jobs[name] for name in ("capsjax, bfloat16", "capsjax, TF32")}
        env = interleave.environment(str(tmp_path))
        env.pop("XLA_FLAGS", None)
        found = interleave.interleave(chosen, 1, env)
        for result in found.values():
            assert 0 < result["seconds"][0] < 10
            assert result["peak_device_bytes"] is None


WORST_REGRET = (
    1.15  # of what "auto" chooses, over the faster form, by measurements that are committed
)


def test_votes_are_formed_where_that_was_measured_to_be_faster(scripts):
    import votes

    measured = json.loads((BENCHMARKS / "results/votes.json").read_text("utf-8"))
    assert [tuple(one["sizes"]) for one in measured] == list(votes.GRID)
    assert max(map(votes.regret, measured)) <= WORST_REGRET


def test_convolutions_take_the_form_that_was_measured_to_be_faster(scripts):
    import convolution

    measured = json.loads((BENCHMARKS / "results/convolution.json").read_text("utf-8"))
    assert [*measured] == [*convolution.GRID]
    for name, (images, size, features, stride) in convolution.GRID.items():
        seconds = {form: np.median(taken) for form, taken in measured[name]["seconds"].items()}
        chosen = convolution.cheapest(images, (size, size, images[3], features), stride)
        assert seconds[chosen] <= WORST_REGRET * min(seconds.values()), name


def test_values_take_the_form_that_was_measured_to_be_faster(scripts):
    import convolution

    measured = json.loads((BENCHMARKS / "results/convolution_value.json").read_text("utf-8"))
    assert [*measured] == [*convolution.VALUE_GRID]
    chosen = set()
    for name, (images, size, features, stride) in convolution.VALUE_GRID.items():
        seconds = {form: np.median(taken) for form, taken in measured[name]["seconds"].items()}
        form = convolution.cheapest_value(images, (size, size, images[3], features), stride)
        assert seconds[form] <= WORST_REGRET * min(seconds.values()), name
        chosen.add(form)
    assert chosen == set(convolution.VALUE_FORMS)


def test_the_table_of_agreement_is_its_file_and_has_every_routing_and_mode():
    from benchmarks import agreement_family

    records = json.loads(agreement_family.PATH.read_text("utf-8"))["records"]
    page = (BENCHMARKS.parent / "docs" / "backpropagation_family.md").read_text("utf-8")
    assert "\n".join(agreement_family.lines(records)) in page
    found = {(one["routing"], one["r"], one["mode"], one["votes"]) for one in records}
    assert len(found) == len(records)
    wanted = {
        (row.name, getattr(row.routing, "num_iters", None), agreement_family.mode_name(mode), held)
        for row in agreement_family.rows()
        for mode in row.modes or (None,)
        for held in (kind.name for kind in agreement_family.kinds(row))
    }
    assert found == wanted
    assert max(one["value"] for one in records) < 1e-14
    for one in records:
        assert one["gradient"] < (1e-6 if one["routing"] == "em_released" else 1e-9)


def test_a_line_of_agreement_names_what_was_measured_at_every_number_that_it_names():
    from benchmarks import agreement_family

    records = json.loads(agreement_family.PATH.read_text("utf-8"))["records"]
    measured = {
        tuple(str(one[name]) for name in ("routing", "r", "votes", "mode")) for one in records
    }
    named = set()
    for line in agreement_family.lines(records)[2:]:
        routing, rounds, votes, mode, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        kinds = agreement_family.NAMES if votes == "all" else votes.split(", ")
        for r in ["None"] if rounds == "—" else rounds.split(","):
            named |= {(routing, r, kind, mode) for kind in kinds}
    assert named == measured
    # Votes of one number of iterations are not said of another.
    few = {"routing": "em", "mode": "stop", "value": 1.0, "gradient": 1.0}
    few = [
        few | {"r": r, "votes": votes} for r, votes in ((1, "dense"), (2, "dense"), (2, "window"))
    ]
    assert [line.split(" | ")[1:3] for line in agreement_family.lines(few)[2:]] == [
        ["1", "dense"],
        ["2", "dense, window"],
    ]


@pytest.mark.parametrize(
    ("routing", "held"),
    [
        ("interest", "shared"),
        ("soft_k_means", "shared"),
        ("slot_attention", "shared"),
        ("heinsen", "shared"),
        ("self", "window"),
    ],
)
def test_agreement_is_measured_on_the_votes_that_a_routing_was_made_for(routing, held):
    """In the last of its modes: against the oracle, and its gradient against differences."""
    import jax

    from benchmarks import agreement_family

    (row,) = (row for row in agreement_family.table.TABLE if row.name == routing)
    if "closed_form" in (kinds := [mode.kind for mode in row.modes]):
        row = dataclasses.replace(row, modes=(row.modes[kinds.index("closed_form")],))
    row = dataclasses.replace(row, modes=row.modes[-1:])
    (kind,) = (one for one in agreement_family.ALL if one.name == held)
    with jax.enable_x64(True):
        (record,) = agreement_family.compare(row, (kind,))
    assert record["value"] < 1e-14
    assert record["gradient"] < 1e-9
