"""Count what an H100 would do for a training step, for routing and for a convolution, without having one.

    make h100                                        what .ci/run checks
    python benchmarks/h100.py [NAME ...]             count the work whose name begins so, and print a table
    python benchmarks/h100.py --check                compare with benchmarks/results/h100.json: 1 if more
    python benchmarks/h100.py --record [NAME ...]    write down what is found

XLA compiles for the card from a description of it. Nothing runs on one, so no time is measured: figures are
of the compiled program. Launches in a loop count as often as the loop goes round; operations are those of
convolutions and matrix products; memory is what a call takes beside its arguments and results. The compiler's
own tuning, which would need the card, is off.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TOOLS, RECORDED = ROOT / ".venv" / "h100", ROOT / "benchmarks" / "results" / "h100.json"
MARGIN, MARGIN_ELSEWHERE = 0.03, 0.25
UNITS = {"launches": "launches", "gflop": "GFLOP", "temporary_mb": "temporary MB"}
BATCH, POSES, MATRICES = 128, (1152, 8), (1152, 10, 8, 16)
IMAGES, KERNEL = (128, 20, 20, 256), (9, 9, 256, 256)
# What XLA asks a card for when it compiles, as an H100 with 80 GB answers.
TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Task(NamedTuple):
    """Hold what is compiled.

    Attributes:
        function: a pure function of arrays.
        arguments: trees of shapes.
        layers: what the layers of a network are called in it.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    layers: tuple[str, ...] = ()


def prepare(tools: Path) -> None:
    """Let this process find the compiler for NVIDIA's cards, before it imports JAX.

    Args:
        tools: the folder that it was installed into.
    """
    nvcc = tools / "nvidia" / "cuda_nvcc"
    if not (tools / "jax_plugins").is_dir() or not nvcc.is_dir():
        raise SystemExit(
            f"h100: got no compiler for NVIDIA's cards at {tools}, expected jax-cuda12-plugin, "
            "jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12 there: `make h100` installs them (Linux only), "
            "into a folder of their own, as in .venv they would change what JAX does"
        )
    sys.path.insert(0, str(tools))
    os.environ["PATH"] = f"{nvcc / 'bin'}:{os.environ['PATH']}"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={nvcc} --xla_gpu_autotune_level=0"
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.pop("JAX_PLATFORMS", None)


def works() -> dict[str, Callable[[], Task]]:
    """Return what can be counted, by name."""
    found: dict[str, Callable[[], Task]] = {}
    for precision in ("float32", "bfloat16"):
        for mode in ("stop", "closed_form"):
            found[f"step, {mode}, {precision}"] = lambda p=precision, m=mode: step(m, p)
        found[f"convolution, {precision}"] = lambda p=precision: convolution(p)
        for mode, num_iters in (("stop", 3), ("full", 3), ("closed_form", 3), ("closed_form", 10)):
            name = f"routing, {mode}, r = {num_iters}, {precision}"
            found[name] = lambda m=mode, r=num_iters, p=precision: routing(m, r, p)
    for mode in ("stop", "closed_form"):
        name = f"routing, {mode}, r = 3, 100 parents, float32"
        found[name] = lambda m=mode: routing(m, 3, "float32", parents=100)
    return dict(sorted(found.items()))


def step(mode: str, precision: str) -> Task:
    """Return a training step of the 2017 network."""
    import jax

    from capsjax.bench.step import random_dataset
    from capsjax.runs.config import load_config
    from capsjax.runs.plan import plan
    from capsjax.training.state import TrainState
    from capsjax.training.step import make_train_step
    from capsjax.types import Batch

    chosen = {"model.routing.gradient": mode, "model.precision": precision}
    config = load_config("mnist_sabour2017", chosen)
    made = plan(config, random_dataset(config, BATCH))
    state = jax.eval_shape(
        lambda params: TrainState.create(params, made.optimiser), made.functions.shapes()
    )
    shape = jax.ShapeDtypeStruct
    batch = Batch(shape((BATCH, 28, 28, 1), "f4"), shape((BATCH,), "i4"), shape((BATCH,), "f4"))
    layers = tuple(config.model.network().layers)
    function = make_train_step(made.functions.training(None), made.optimiser)
    return Task(function, (state, batch), layers)


def routing(mode: str, num_iters: int, precision: str, parents: int = MATRICES[1]) -> Task:
    """Return value and gradient of routing alone, at the 2017 network's size."""
    import jax

    from capsjax.bench.routing import gradient_named
    from capsjax.routing import DynamicRouting
    from capsjax.votes import form_votes

    route = DynamicRouting(num_iters=num_iters, gradient=gradient_named(mode))

    def loss(u: jax.Array, W: jax.Array, weights: jax.Array) -> jax.Array:
        return (route(form_votes(u, W)).pose * weights).sum()

    i, _, d, e = MATRICES
    shapes = ((BATCH, *POSES), (i, parents, d, e), (BATCH, parents, e))
    arguments = tuple(jax.ShapeDtypeStruct(shape, precision) for shape in shapes)
    return Task(jax.value_and_grad(loss, (0, 1)), arguments)


def convolution(precision: str) -> Task:
    """Return value and gradients of the 2017 network's second convolution."""
    import jax

    from capsjax.convolution import conv2d

    def both(y_bar: jax.Array, images: jax.Array, kernel: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, k: conv2d(x, k, stride=2), images, kernel)
        return y, pull(y_bar)

    shapes = ((BATCH, 6, 6, 256), IMAGES, KERNEL)
    return Task(both, tuple(jax.ShapeDtypeStruct(shape, precision) for shape in shapes))


def count(task: Task) -> dict[str, Any]:
    """Compile a task for an H100, and count."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from programs import Program

    # What is written for a GPU, though nothing in this process runs on one.
    jax.default_backend = lambda: "gpu"
    card = topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=TARGET)
    there = NamedSharding(Mesh(card.devices, ("x",)), PartitionSpec())
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), task.arguments
    )
    lowered = jax.jit(task.function).trace(*placed).lower(lowering_platforms=("cuda",))
    compiled = lowered.compile()
    found = Program(compiled.as_text()).count(task.layers)
    return {
        "launches": found.launches,
        "gflop": round(found.operations / 1e9, 1),
        "temporary_mb": round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 1),
        "parts": found.parts if task.layers else found.kinds,
    }


def grown(found: dict[str, Any], recorded: dict[str, Any], margin: float) -> list[str]:
    """Name the counts that are larger than what is recorded.

    Args:
        found: the counts of each work.
        recorded: what they are compared with, of which some may be missing.
        margin: by how much, relatively, a count may be larger.

    Returns:
        One line for each that is larger by more, with the parts of what it counts.
    """
    lines = []
    for name, counts in found.items():
        before = recorded.get(name)
        if before is None:
            lines.append(f"{name}: nothing is recorded")
            continue
        for key, unit in UNITS.items():
            if counts[key] > before[key] * (1 + margin):
                more = f": {counts['parts']}, before {before['parts']}" if key == "launches" else ""
                lines.append(f"{name}: {counts[key]} {unit}, before {before[key]}{more}")
    return lines


def chosen(recorded: dict[str, Any], version: str) -> tuple[dict[str, Any], float]:
    """Choose what counts are compared with: those of this jaxlib, or, with more room, of the newest one."""
    if version in recorded:
        return recorded[version], MARGIN
    newest = max(recorded, key=lambda name: tuple(map(int, name.split("."))))
    return recorded[newest], MARGIN_ELSEWHERE


def table(found: dict[str, Any], recorded: dict[str, Any], version: str) -> Any:
    """Make a table of the counts, with those recorded beside them."""
    from capsjax.tables import Table

    rows = []
    for name, counts in found.items():
        before = recorded.get(name, {})
        beside = (f"{counts[key]:,} ({before.get(key, '–')})" for key in UNITS)
        parts = ", ".join(f"{part} {launches}" for part, launches in counts["parts"].items())
        rows.append((name, *beside, parts))
    title = f"compiled for an H100 by jaxlib {version}, batch {BATCH}; in brackets what is recorded"
    return Table(title, ("work", *UNITS.values(), "launches by part"), tuple(rows))


def main() -> None:
    """Count, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="work whose name begins so")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a count has grown")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name}")
    parser.add_argument("--tools", type=Path, default=TOOLS, metavar="FOLDER")
    arguments = parser.parse_args()
    prepare(arguments.tools)
    jaxlib, console = importlib.import_module("jaxlib"), importlib.import_module("rich.console")
    version, recorded = jaxlib.__version__, json.loads(RECORDED.read_text(encoding="utf-8"))
    before, margin = chosen(recorded, version)
    found = {}
    for name, make in works().items():
        # Without names, all that is recorded: the rest is counted for those who ask.
        if name.startswith(tuple(arguments.names)) if arguments.names else name in before:
            print(name, file=sys.stderr, flush=True)
            found[name] = count(make())
    console.Console(width=160).print(table(found, before, version).to_rich())
    if arguments.record:
        merged = recorded.get(version, {}) | found
        text = json.dumps(recorded | {version: dict(sorted(merged.items()))}, indent=1)
        RECORDED.write_text(text + "\n", encoding="utf-8")
    elif arguments.check and (lines := grown(found, before, margin)):
        print(*lines, sep="\n", file=sys.stderr)
        raise SystemExit(
            "h100: the program for a GPU does more than it did. Make it do less; or, where it is meant to, "
            "write down what was found, in the same commit: "
            "`.venv/bin/python benchmarks/h100.py --record`"
        )


if __name__ == "__main__":
    main()
