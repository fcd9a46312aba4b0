"""Which part of a step takes the time: read from the compiled program and the profiler's trace."""

import collections
import json
import statistics

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from capsjax import cli
from capsjax.bench import routing, step, workload
from capsjax.bench.profile import Profile, fresh_metadata, parts_of, profile, seconds_of
from capsjax.checks import UserError
from capsjax.runs.config import load_config

CACHE = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
LAYERS = ("stem", "primary", "classes")
PARTS = ("batch", *LAYERS, "decoder", "loss", "optimiser")
PROGRAM = """
HloModule jit_train_steps

%fused (p: f32[2]) -> f32[2] {
  ROOT %inside.1 = f32[2]{0} add(%p, %p), metadata={op_name="jit(f)/while/body/jvp(stem)/add"}
}

ENTRY %main (p: f32[2]) -> (f32[2], s32[]) {
  %fusion.3 = f32[2]{0} fusion(%p), calls=%f, metadata={op_name="f/transpose(jvp(classes))/mul" id=3}
  %copy.507 = f32[2]{0} copy(%fusion.3)
  %sums = (f32[2]{0}, /*index=1*/s32[]) dot(%p), metadata={op_name="f/decoder/jit(batch_norm)/dot"}
  %while.1 = (s32[], f32[2]{0}) while(%t), body=%b, metadata={op_name="jit(f)/classes/while"}
  ROOT %lossless = f32[2]{0} negate(%p), metadata={op_name="jit(f)/lossless/neg"}
}
"""


def _event(name: int, microseconds: int, operation: str) -> str:
    stat = f'stats {{ metadata_id: 1 str_value: "{operation}" }}'
    return f"events {{ metadata_id: {name} duration_ps: {microseconds}000000 {stat} }}"


NAMES = """
  event_metadata { key: 1 value { id: 1 name: "fusion_3_kernel" } }
  event_metadata { key: 2 value { id: 2 name: "MemcpyD2D" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
"""
# The shape of a trace of a GPU: kernels on streams, once more on a line that other tools derive from them.
GPU = f"""
planes {{
  name: "/host:CPU"
  lines {{ name: "python" {_event(1, 9, "fusion.3")} }}
  {NAMES}
}}
planes {{
  name: "/device:GPU:0"
  lines {{
    name: "Stream #13(Compute)"
    {_event(1, 2, "fusion.3")}
    {_event(2, 3, "copy.507")}
    {_event(1, 4, "fusion.3")}
  }}
  lines {{ name: "XLA Modules" {_event(1, 9, "fusion.3")} }}
  {NAMES}
}}
"""


def test_an_operation_belongs_to_the_scope_that_it_was_traced_in():
    assert parts_of(PROGRAM, LAYERS) == {
        "inside.1": "stem",
        "fusion.3": "classes",
        "copy.507": "other",
        "sums": "decoder",
        "while.1": None,
        "lossless": "other",
    }


def test_kernels_of_a_gpu_are_counted_once():
    trace = jax.profiler.ProfileData.from_text_proto(GPU)
    assert seconds_of([trace]) == pytest.approx({"fusion.3": 6e-6, "copy.507": 3e-6})


@pytest.mark.parametrize("gradient", ["stop", "full", "closed_form"])
def test_every_part_of_a_step_is_found(gradient):
    config = load_config("smoke", {"model.routing.gradient": gradient})
    with fresh_metadata():  # a cache may hold the same step from before a scope got its name
        work = step.step_work(config, 32, times=2)
    found = profile(work, calls=2)
    assert set(found.seconds) == {*PARTS, "other"}
    assert all(seconds > 0 for seconds in found.seconds.values())
    # Most of the program is known: a part that lost its scope would show here. By operations, not by
    # seconds, which a busy machine adds to whichever operation it interrupts.
    parts = collections.Counter(parts_of(work.program_text(), work.layers).values())
    assert parts["other"] < 0.4 * (parts.total() - parts[None])


def test_the_time_is_that_of_one_step():
    """Work of which nine tenths are in one scope has its time there, and the whole time is about right."""

    def long(x):
        with jax.named_scope("classes"):
            for _ in range(9):
                x = jnp.dot(x, x) / 1000
        with jax.named_scope("decoder"):
            return jnp.dot(x, x)

    arguments = (jnp.ones([700, 700]),)
    compiling = jax.jit(long).lower, arguments, lambda _, used: used
    with fresh_metadata():
        work = workload.compile_work("long", {}, 1, *compiling, times=2)
    times = [profile(work._replace(layers=LAYERS), calls=1) for _ in range(5)]
    found = times[-1]
    # The median: a busy machine may interrupt one operation for as long as all others take.
    shares = [one.seconds["classes"] / one.total for one in times]
    assert statistics.median(shares) == pytest.approx(0.9, rel=0.15)
    assert found.as_json()["shares"]["classes"] == shares[-1]


def test_the_table_begins_with_what_takes_longest():
    work = routing.routing_work(routing.RoutingSizes(batch=2, children=2, parents=2))
    table = Profile(work=work, seconds={"stem": 0.001, "classes": 0.003}).table()
    assert table.rows == (("classes", "3.00 ms", "75.0 %"), ("stem", "1.00 ms", "25.0 %"))


def test_nothing_to_look_at_is_refused():
    work = routing.routing_work(routing.RoutingSizes(batch=2, children=2, parents=2))
    with pytest.raises(UserError, match="calls: got 0, expected an integer of at least 1"):
        profile(work, calls=0)


def test_a_cached_program_has_the_names_of_today(tmp_path):
    """Two programs that differ in nothing but a scope do not share an entry of the cache."""

    def scoped(name):
        def function(x):
            with jax.named_scope(name):
                return jnp.sin(x) * 3

        return jax.jit(function).lower(jnp.ones(5)).compile().as_text()

    before = {name: jax.config.values[name] for name in CACHE}
    for name, value in CACHE.items():
        jax.config.update(name, str(tmp_path) if value is None else value)
    compilation_cache.reset_cache()
    try:
        assert "stem" in scoped("stem")
        with fresh_metadata():
            assert "decoder" in scoped("decoder")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert not jax.config.values["jax_compilation_cache_include_metadata_in_key"]


def test_the_command_shows_it(capsys):
    words = ["bench", "step", "smoke", "--repeats", "1", "--batch-size", "9", "--profile", "--json"]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "train step by parts" in told
    assert set(json.loads(told.splitlines()[-1])["profile"]["seconds"]) == {*PARTS, "other"}
