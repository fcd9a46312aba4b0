"""Counting what a GPU would do: the reader of compiled programs, and what is said when counts grow."""

import json
import re
import sys
from pathlib import Path

import jax
import jaxlib
import pytest

from tests.test_project import pins, pythons

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

ROUTED, STEM = (
    f', metadata={{op_name="jit(step)/jvp({part})/dot"}}' for part in ("routing", "stem")
)
CONTRACTED = (
    'backend_config={"gemm_backend_config":{"dot_dimension_numbers":'
    '{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}'
)
TRIPS = 'backend_config={"known_trip_count":{"n":"3"}}'
CONV = 'window={size=3x3}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$conv'
PROGRAM = f"""HloModule jit_step

%fused (p.0: f32[8,4], p.1: f32[4,16]) -> f32[8,16] {{
  %p.0 = f32[8,4]{{1,0}} parameter(0)
  %p.1 = f32[4,16]{{1,0}} parameter(1)
  ROOT %dot.1 = f32[8,16]{{1,0}} dot(%p.0, %p.1), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
}}

%body (c: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {{
  %c = (s32[], f32[8,16]{{1,0}}) parameter(0)
  %a = f32[8,4]{{1,0}} constant({{...}})
  %b = f32[4,16]{{1,0}} constant({{...}})
  %f = f32[8,16]{{1,0}} fusion(%a, %b), kind=kOutput, calls=%fused{ROUTED}
  %g = (f32[8,16], s8[64]) custom-call(%a, %b), custom_call_target="__cublas$gemm"{STEM}, {CONTRACTED}
  ROOT %t = (s32[], f32[8,16]{{1,0}}) tuple(%i, %f)
}}

ENTRY %main (x: f32[2,5,5,3], k: f32[3,3,3,7], y: f32[2,3,3,7]) -> f32[8,16] {{
  %x = f32[2,5,5,3]{{3,2,1,0}} parameter(0)
  %k = f32[3,3,3,7]{{3,2,1,0}} parameter(1)
  %y = f32[2,3,3,7]{{3,2,1,0}} parameter(2)
  %w = (s32[], f32[8,16]{{1,0}}) while(%start), condition=%cond, body=%body, {TRIPS}
  %v = (f32[2,3,3,7], u8[0]) custom-call(%x, %k), {CONV}Forward"
  %x_bar = (f32[2,5,5,3], u8[0]) custom-call(%y, %k), {CONV}BackwardInput"
  %k_bar = (f32[3,3,3,7], u8[0]) custom-call(%x, %y), {CONV}BackwardFilter"
  ROOT %out = f32[8,16]{{1,0}} get-tuple-element(%w), index=1
}}
"""
CONVOLUTION = 2 * 2 * 3 * 3 * 7 * 3 * 3 * 3
PRODUCT = 2 * 8 * 16 * 4


@pytest.fixture
def scripts(monkeypatch):
    """Import from the folder, as the scripts do from each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("h100", "programs"):
        sys.modules.pop(name, None)


def test_a_loop_counts_as_often_as_it_goes_round(scripts):
    import programs

    found = programs.Program(PROGRAM).count(["stem", "routing"])
    assert found.launches == 3 * 2 + 3
    assert found.operations == 3 * 2 * PRODUCT + 3 * CONVOLUTION
    assert found.parts == {"routing": 3, "stem": 3, "other": 3}
    assert found.kinds["__cublas$gemm"] == 3


def test_a_loop_of_unknown_length_is_refused(scripts):
    import programs

    text = PROGRAM.replace(TRIPS, "")
    with pytest.raises(ValueError, match="w: got a loop whose length is not known"):
        programs.Program(text).count()


def test_a_program_of_the_compiler_is_read(scripts):
    """XLA's own text: a loop of products, each of [8, 8] with [8, 8]."""
    import programs

    def f(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: y @ x, x)

    text = jax.jit(f).lower(jax.ShapeDtypeStruct((8, 8), "float32")).compile().as_text()
    assert programs.Program(text).count().operations == 5 * 2 * 8**3


def counts(launches=10, gflop=1.0, temporary_mb=5.0):
    more = {"gflop": gflop, "temporary_mb": temporary_mb}
    return {"launches": launches, **more, "parts": {"routing": launches}}


def test_each_count_that_grows_is_named(scripts):
    import h100

    before = {"step": counts(), "routing": counts()}
    assert h100.grown({"step": counts(launches=9), "routing": counts()}, before, 0.03) == []
    (line,) = h100.grown({"step": counts(launches=11)}, before, 0.03)
    assert line == "step: 11 launches, before 10: {'routing': 11}, before {'routing': 10}"
    assert h100.grown({"step": counts(gflop=1.2)}, before, 0.03) == ["step: 1.2 GFLOP, before 1.0"]
    assert h100.grown({"step": counts(temporary_mb=5.1)}, before, 0.03) == []
    assert h100.grown({"other": counts()}, before, 0.03) == ["other: nothing is recorded"]


def test_another_jaxlib_is_compared_with_the_newest_that_is_recorded(scripts):
    import h100

    recorded = {"0.9.3": {"a": counts()}, "0.10.2": {"b": counts()}}
    assert h100.chosen(recorded, "0.9.3") == ({"a": counts()}, h100.MARGIN)
    assert h100.chosen(recorded, "0.12.0.1") == ({"b": counts()}, h100.MARGIN_ELSEWHERE)


def test_what_is_missing_is_named_with_the_command_that_installs_it(scripts, tmp_path):
    import h100

    with pytest.raises(SystemExit, match=r"no compiler for NVIDIA's cards at .* `make h100`"):
        h100.prepare(tmp_path)


def test_the_record_names_what_is_counted(scripts):
    import h100

    recorded = json.loads(h100.RECORDED.read_text("utf-8"))
    for found in recorded.values():
        assert set(found) <= set(h100.works())
    assert jaxlib.__version__ not in recorded or recorded[jaxlib.__version__]


def test_the_compiler_for_gpus_is_of_jaxlibs_version():
    for python in pythons():
        pinned = pins(python)
        assert pinned["jax-cuda12-plugin"] == pinned["jax-cuda12-pjrt"] == pinned["jaxlib"]


def test_the_continuous_integration_counts_before_it_tests():
    lines = (ROOT / ".ci/run").read_text("utf-8").split()
    assert lines.index("h100") < lines.index("exec")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^h100: .*\n\t@\$\(BIN\)/python benchmarks/h100.py --check$", makefile, re.M)
