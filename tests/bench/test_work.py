"""Timing one piece of work: what is timed is the real work, and the figures are of that."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax import cli
from capsjax.bench import measurement, routing, step, workload
from capsjax.checks import FieldError, UserError
from capsjax.cli.parser import make_parser
from capsjax.gradients import ClosedForm, FullGradient, GradientMode, StopGradient
from capsjax.progress import Silent
from capsjax.routing import DynamicRouting, Routing
from capsjax.runs.config import load_config
from tests.comparison import Record

SMALL = routing.RoutingSizes(batch=4, children=6, parents=3, in_dim=2, out_dim=5, num_iters=2)
FIELDS = {
    *("median_s", "min_s", "compile_s", "images_per_s", "temp_bytes", "peak_rss_bytes"),
    *("device", "versions"),
}


def small(**overrides):
    return load_config("smoke", overrides)


class TestStep:
    def test_each_call_is_a_step_that_goes_on_from_the_last(self, monkeypatch):
        """The state that a call returns is what the next one starts from."""
        steps = []
        compiled = step._train_steps

        def spied(made, seed, epoch):
            lower, arguments, advance = compiled(made, seed, epoch)

            def watch(result, used):
                steps.append(int(result[0].step.reshape(-1)[0]))
                return advance(result, used)

            return lower, arguments, watch

        monkeypatch.setattr(step, "_train_steps", spied)
        record = Record()
        measured = measurement.measure(step.step_work(small(), 8), 3, record, warm_up=1)
        assert steps == [1, 2, 3, 4]
        assert len(measured.seconds) == 3
        assert record.told[0] == ("timing: train step", 4, 0)
        assert record.told[-1] == (4, "")

    def test_a_call_may_take_several_steps_and_the_time_is_of_one(self, monkeypatch):
        work = step.step_work(small(), 8, times=3)
        now = iter(range(0, 600, 6))
        monkeypatch.setattr("time.perf_counter", lambda: next(now))
        measured = measurement.measure(work, 2, Record(), warm_up=0)
        assert measured.seconds == (2, 2)
        assert measured.as_json()["images_per_s"] == 4

    @pytest.mark.parametrize(
        "make",
        [
            lambda times: step.step_work(small(), 4, times=times, forward=True),
            lambda times: routing.routing_work(SMALL, times=times),
        ],
    )
    def test_a_call_may_send_off_several_before_it_waits(self, make, monkeypatch):
        order = []
        compiled = jax.stages.Compiled.__call__
        wait = jax.block_until_ready

        def called(self, *arguments):
            order.append("sent")
            return compiled(self, *arguments)

        def waited(tree):
            order.append("waited")
            return wait(tree)

        work = make(3)
        monkeypatch.setattr(jax.stages.Compiled, "__call__", called)
        monkeypatch.setattr(jax, "block_until_ready", waited)
        work.call()
        assert order == ["sent"] * 3 + ["waited"]
        assert work.times == 3

    def test_the_images_have_the_shape_and_the_number_that_were_asked_for(self):
        work = step.step_work(small(), 5)
        assert work.examples == work.sizes["batch"] == 5
        assert work.sizes["image"] == [8, 8, 1]
        assert (work.sizes["routing"], work.sizes["gradient"]) == ("dynamic", "full")
        uniform = step.step_work(small(**{"model.routing.kind": "uniform"}))
        assert uniform.sizes["gradient"] is None
        title = (
            measurement.Measurement(work=uniform, seconds=(1.0,), peak_rss_bytes=1).table().title
        )
        assert title.startswith(f"batch {uniform.examples}, image [8, 8, 1], routing uniform; ")

    def test_a_network_without_routing_is_timed(self):
        found = step.step_work(load_config("digits_cnn"), 4).sizes
        assert [found[name] for name in ("routing", "gradient", "num_iters")] == [None, None, None]

    def test_every_step_of_a_call_has_a_batch_of_its_own(self, monkeypatch):
        seen = []
        compiled = step._train_steps

        def spied(made, seed, epoch):
            seen.append((epoch, compiled(made, seed, epoch)))
            return seen[0][1]

        monkeypatch.setattr(step, "_train_steps", spied)
        step.step_work(small(), 8, times=3)
        epoch, (_, (_, _, start, stop), _) = seen[0]
        assert (start, stop) == (0, 3)
        assert epoch.first == 0
        assert sorted(epoch.order.tolist()) == list(range(3 * 8))

    def test_more_images_than_there_is_room_for_are_refused(self):
        with pytest.raises(UserError, match=r"got 1000008 images, expected .* at most 1000000"):
            step.step_work(small(), 8, times=125_001)

    def test_the_forward_pass_is_the_network_s(self):
        work = step.step_work(small(), 4, forward=True)
        work.call()
        assert work.name == "forward"
        assert 0 < work.temp_bytes < step.step_work(small(), 4).temp_bytes

    @pytest.mark.parametrize("kind", ["digits", "mnist"])
    def test_random_images_look_like_the_data(self, kind):
        dataset = step.random_dataset(small(**{"data.kind": kind}), 3)
        assert dataset.image_shape == ((8, 8, 1) if kind == "digits" else (28, 28, 1))
        assert dataset.num_classes == 10
        if kind == "digits":
            real = small().data.load()
            assert (real.image_shape, real.num_classes) == (dataset.image_shape, 10)

    def test_what_cannot_be_timed_is_refused(self):
        with pytest.raises(UserError, match=r"got arrays.*expected mnist, .*digits, .*folder"):
            step.step_work(small(**{"data.kind": "arrays"}))
        with pytest.raises(FieldError, match=r"batch_size: got 0"):
            step.step_work(small(), 0)
        for make in (
            lambda: step.step_work(small(), times=0),
            lambda: step.step_work(small(), times=0, forward=True),
            lambda: routing.routing_work(SMALL, times=0),
        ):
            message = r"^times: got 0, expected an integer of at least 1"
            with pytest.raises(UserError, match=message):
                make()
        with pytest.raises(UserError, match=r"^repeats: got 0"):
            measurement.measure(routing.routing_work(SMALL), 0, Silent())


class TestRouting:
    @pytest.mark.parametrize("votes", ["linear", "dense", "auto"])
    def test_it_is_value_and_gradient_of_routing(self, votes, monkeypatch):
        seen = []
        compile_it = routing.compile_work

        def spied(name, sizes, examples, lower, arguments, advance, *, times):
            seen.append((lower(*arguments).compile()(*arguments), arguments))
            return compile_it(name, sizes, examples, lower, arguments, advance, times=times)

        monkeypatch.setattr(routing, "compile_work", spied)
        work = routing.routing_work(SMALL, gradient=ClosedForm(), votes=votes)
        work.call()
        (value, (u_bar, W_bar, _)), (u, W, weights, _) = seen[0]
        assert u.shape == u_bar.shape == (4, 6, 2)
        assert W.shape == W_bar.shape == (6, 3, 2, 5)
        assert work.sizes["votes"] == votes
        assert work.sizes["gradient"] == "closed_form"

        def loss(u, W, gradient):
            votes = jnp.einsum("bid,ijde->bije", u, W)
            found = DynamicRouting(num_iters=2, gradient=gradient)(votes)
            return jnp.sum(found.pose * weights)

        pull = jax.value_and_grad(loss, argnums=(0, 1))
        expected, bars = pull(u, W, FullGradient())
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        for found, wanted in zip((u_bar, W_bar), bars, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)
        assert not np.allclose(u_bar, pull(u, W, StopGradient())[1][0], rtol=1e-3, atol=1e-6)

    def test_every_routing_can_be_timed_with_what_it_takes_and_trains(self, monkeypatch):
        arguments = {}

        def compiled(name, sizes, examples, lower, given, advance, *, times):
            arguments[sizes["routing"]] = given[3]
            shapes = jax.tree.map(lambda x: x.shape, lower(*given).out_info[1])
            assert shapes == ((4, 6, 2), (6, 3, 2, 5), jax.tree.map(jnp.shape, given[3]))
            return workload.Workload(name, sizes, print, times, examples, 0.0, False, 0, str)

        monkeypatch.setattr(routing, "compile_work", compiled)
        # Without those that other tests have defined.
        own = [cls for cls in Routing.variants() if cls.__module__.startswith("capsjax.")]
        kinds = [kind.kind for kind in own]
        assert set(kinds) <= set(routing._kinds())
        described = {kind: routing.routing_work(SMALL, routing=kind).sizes for kind in kinds}
        assert list(arguments) == kinds
        assert arguments["dynamic"] == {}
        assert arguments["em"]["params"].keys() == {"beta_u", "beta_a"}
        assert arguments["self"]["params"]["route"].shape == (6, 3, 2)
        assert arguments["self"]["activation"].shape == (4, 6)
        assert (described["em"]["gradient"], described["em"]["num_iters"]) == ("stop", 2)
        assert (described["self"]["gradient"], described["self"]["num_iters"]) == (None, None)

    def test_a_routing_without_iterations_has_no_gradient_mode(self):
        with pytest.raises(
            UserError, match=r"^gradient: got 'full' for routing 'self', which has no"
        ):
            routing.routing_work(SMALL, routing="self", gradient=FullGradient())
        with pytest.raises(UserError, match=r"^routing: got 'emm', expected .*did you mean 'em'\?"):
            routing.routing_work(SMALL, routing="emm")
        assert routing.gradient_named("implicit", "fixed_point").kind == "implicit"

    def test_sizes_and_names_are_checked(self):
        with pytest.raises(FieldError, match=r"RoutingSizes.parents: got 0"):
            routing.RoutingSizes(parents=0)
        offered = [mode.kind for mode in GradientMode.variants() if mode.kind != "implicit"]
        assert [workload.kind_of(routing.gradient_named(name)) for name in offered] == offered
        message = r"got 'implicit', expected one of closed_form, .*, truncated: .* step_work"
        with pytest.raises(UserError, match=message):
            routing.gradient_named("implicit")
        with pytest.raises(UserError, match=r"got 'stopp', expected one of .*did you mean 'stop'"):
            routing.gradient_named("stopp")


def test_the_figures_are_of_the_seconds():
    work = routing.routing_work(SMALL)._replace(examples=10)
    found = measurement.Measurement(work=work, seconds=(0.4, 0.1, 0.2), peak_rss_bytes=7).as_json()
    assert set(found) >= FIELDS
    assert (found["median_s"], found["min_s"], found["max_s"]) == (0.2, 0.1, 0.4)
    assert found["images_per_s"] == pytest.approx(50)
    assert found["peak_rss_bytes"] == 7
    assert found["versions"]["jax"] == jax.__version__


def test_the_peak_is_at_least_what_is_resident():
    before = measurement.peak_rss()
    block = np.ones(40_000_000)
    assert measurement.peak_rss() >= before
    assert measurement.peak_rss() > block.nbytes


class TestCommand:
    @pytest.mark.parametrize("work", ["step", "forward", "routing"])
    def test_every_flag_has_a_description(self, work, capsys):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["bench", work, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        bench_parser = make_parser()._subparsers._group_actions[0].choices["bench"]
        parser = bench_parser._subparsers._group_actions[0].choices[work]
        for action in parser._actions:
            assert action.help
            assert " ".join(action.help.split()) in text
        assert ("--training.epochs 5" in text) == (work != "routing")

    @pytest.mark.parametrize(
        "words",
        [
            ["routing", "--batch", "4", "--children", "6", "--parents", "3", "--num-iters", "2"],
            ["step", "smoke", "--batch-size", "4"],
            ["forward", "smoke", "--batch-size", "4"],
        ],
    )
    def test_json_is_the_last_line(self, words, capsys):
        assert cli.main(["bench", *words, "--repeats", "2", "--json"]) == 0
        out = capsys.readouterr().out.splitlines()
        found = json.loads(out[-1])
        assert set(found) >= FIELDS
        assert len(found["seconds"]) == 2
        assert found["batch"] == 4
        assert any("median" in line for line in out[:-1])

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "expected what to time: step, forward or routing"),
            (["routing", "--gradient", "ful"], "did you mean 'full'"),
            (["routing", "--votes", "dens"], "did you mean 'dense'"),
            (["routing", "--training.steps", "3"], "--training.steps: unknown flag"),
            (["step", "smok"], "did you mean 'smoke'"),
            (["step", "smoke", "--model.dims", "3"], "dims"),
        ],
    )
    def test_mistakes_are_told(self, words, message, capsys, as_installed):
        assert cli.main(["bench", *words]) == 2
        assert message in capsys.readouterr().err
