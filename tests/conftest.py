"""What every test runs under: four CPU devices, strict shapes and ranks, and compiled code kept."""

import gc
import importlib.metadata
import itertools
import os
import pathlib
import signal

# JAX reads these when it is imported, here and in every process that a test starts. The tests' time is the
# compiler's, for programs that run for a moment: it optimises little. What XLA_FLAGS says already comes after
# that and wins: CONTRIBUTING.md says how to have the programs of users.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
    ]
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones lack the option
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false " + os.environ["XLA_FLAGS"]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if (
    os.environ["JAX_PLATFORMS"] != "cpu"
):  # else an accelerator keeps ten bits of a product's operands
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".jax_cache")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["MPLBACKEND"] = "Agg"

import jax
import jaxtyping
import pytest

# Before capsjax is imported: every annotation in it, of shapes too, is checked at every call. As for
# static checkers, a whole number may stand where a float is asked for.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook("capsjax", CHECKER)
jax.config.update("jax_numpy_rank_promotion", "raise")
# A job in the background of a script begins with Ctrl-C ignored, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored below `nohup`


# By default Python looks for garbage so often that a tenth of the tests' time is spent on it.
gc.set_threshold(50_000, 20, 50)

# Memory maps of a process, of which Linux grants 65,530: each compiled program takes several.
MAPS = pathlib.Path("/proc/self/maps")
MANY_MAPS, TOO_MANY_MAPS = 12_000, 30_000
FEW_TESTS = 50  # which take less than the rest
finished = itertools.count(1)


def forget_programs(many):
    """Let go of compiled programs, where a process has many maps; the cache on the disk has them."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > many:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Have few compiled programs at the beginning of each file of tests."""
    yield
    forget_programs(MANY_MAPS)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Let a file of tests compile any number of programs."""
    if next(finished) % FEW_TESTS == 0:
        forget_programs(TOO_MANY_MAPS)


@pytest.fixture(scope="session")
def full_optimisation():
    """Give the options with which the compiler optimises as it does for users."""
    options = {"xla_backend_optimization_level": 3}
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        options["xla_cpu_use_fusion_emitters"] = True
    return options


@pytest.fixture
def x64():
    """Compute in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def four_devices():
    """Have four devices, as a CPU has here; an accelerator's number is what it is."""
    if jax.default_backend() != "cpu":
        pytest.skip("several devices are tested on the CPU's: JAX_PLATFORMS=cpu")


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """Have one small comparison, which tests of comparisons and of reports share."""
    from tests.comparison import make

    return make(tmp_path_factory)


@pytest.fixture
def unpainted(monkeypatch):
    """Paint no figure, where a test looks at none: their files are there, and empty."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    def save(figure, to, **options):
        if isinstance(to, pathlib.Path):
            to.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
    monkeypatch.setattr(Figure, "get_tightbbox", lambda figure: Bbox.unit())


@pytest.fixture
def as_installed():
    """Check no annotation, as in a user's process, where the library's own errors have to speak."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def answer(capsys):
    """Run a command in this process; return its exit code, lines of output and lines of errors."""
    from capsjax import cli

    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their argument: an archive's hold the time at which a worker made it."""
    return argname if isinstance(val, bytes) else None
