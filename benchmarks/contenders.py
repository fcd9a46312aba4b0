"""What is timed against what: each contender makes a call that does one piece of work and waits for it."""

import os
from collections.abc import Callable
from typing import Any

import family_work

Call = Callable[[], Any]


def _ours(job: dict[str, Any]) -> Call:
    """Make a step, a forward pass or routing alone, of this package."""
    import jax

    from capsjax.bench.routing import RoutingSizes, gradient_named, routing_work
    from capsjax.bench.step import step_work
    from capsjax.runs.config import load_config

    folder = os.environ["CAPSJAX_BENCH_CACHE"]
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    times = {"times": job.get("times", 1)}
    if job["work"] == "routing":
        mode, votes = gradient_named(job["gradient"]), job.get("votes", "auto")
        sizes = RoutingSizes(**job["sizes"])
        kind = job.get("routing", "dynamic")
        return routing_work(sizes, routing=kind, gradient=mode, votes=votes, **times).call
    changed = job.get("changed") or {"model.routing.gradient": job["gradient"]}
    if job.get("precision") == "bfloat16":
        changed["model.precision"] = "bfloat16"
    config = load_config(job.get("config", "mnist_sabour2017"), changed)
    return step_work(config, job["batch"], forward=job["work"] == "forward", **times).call


def _naive_flax(job: dict[str, Any]) -> Call:
    import jax
    from naive_flax import make_step

    step, state = make_step(job["batch"])
    held = [state]  # the step donates its arguments, so each call needs the results of the last

    def call() -> None:
        held[0] = jax.block_until_ready(step(*held[0]))

    return call


def _pytorch(job: dict[str, Any]) -> Call:
    """Make the same work in PyTorch: eager or compiled, on a CPU or a GPU, with autocast if asked for.

    On a GPU with what its users are advised to do: TF32, channels last, fused Adam, CUDA graphs. A job that
    says `tuned` is written for speed on a CPU too (`pytorch_tuned`); the others in the ports' formulation.
    """
    import torch

    device = torch.device(job.get("device", "cpu"))
    torch.manual_seed(0)
    torch.set_default_device(device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    make = {"routing": _pytorch_routing, "forward": _pytorch_forward, "step": _pytorch_step}
    once = make[job["work"]](job, device)

    # CUDA graphs reuse the memory of the step before: PyTorch has to be told where one begins.
    def marked() -> None:
        if job.get("compile"):
            torch.compiler.cudagraph_mark_step_begin()
        once()

    return _several(job, marked, device)


def _prepared(job: dict[str, Any], device: Any, function: Call) -> Call:
    """Return a function of tensors under autocast, compiled, or as it is, as the job asks."""
    import torch

    half = job.get("precision") == "bfloat16"

    def cast(*tensors: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return function(*tensors)

    return torch.compile(cast, mode="reduce-overhead") if job.get("compile") else cast


def _formulation(job: dict[str, Any]) -> Any:
    """Return the module that the job's network and routing are from."""
    if job.get("tuned"):
        import pytorch_tuned

        return pytorch_tuned
    import pytorch_capsnet

    return pytorch_capsnet


def _pytorch_routing(job: dict[str, Any], device: Any) -> Call:
    import torch

    ported = _formulation(job)
    n = {"num_iters": 3, **job["sizes"]}
    sizes = n["children"], n["parents"], n["in_dim"], n["out_dim"]
    layer = ported.DenseCapsules(*sizes, job["gradient"], n["num_iters"])
    u = torch.randn(n["batch"], n["children"], n["in_dim"]).mul(0.3).requires_grad_()
    weights = torch.randn(n["batch"], n["parents"], n["out_dim"])
    loss = _prepared(job, device, lambda u: (layer(u) * weights).sum())

    # Cleared, not added to: a backward pass into an existing gradient would do more work.
    def route() -> None:
        u.grad = layer.weight.grad = None
        loss(u).backward()

    return route


def _pytorch_network(job: dict[str, Any], device: Any) -> tuple[Any, Any, Any]:
    import torch

    advised = device.type == "cuda" or job.get("tuned")
    layout = torch.channels_last if advised else torch.contiguous_format
    model = _formulation(job).CapsNet(job["gradient"]).to(memory_format=layout)
    images = torch.rand(job["batch"], 1, 28, 28).to(memory_format=layout)
    return model, images, torch.eye(10)[torch.arange(job["batch"]) % 10]


def _pytorch_forward(job: dict[str, Any], device: Any) -> Call:
    import torch

    model, images, chosen = _pytorch_network(job, device)
    forward = _prepared(job, device, lambda images, chosen: model(images, chosen))
    return torch.no_grad()(lambda: forward(images, chosen))


def _pytorch_step(job: dict[str, Any], device: Any) -> Call:
    import pytorch_capsnet as ported
    import torch

    model, images, chosen = _pytorch_network(job, device)
    options: dict[str, Any] = {"fused": True} if device.type == "cuda" or job.get("tuned") else {}
    options |= {"capturable": True} if device.type == "cuda" else {}
    optimiser = torch.optim.Adam(model.parameters(), **options)

    def objective(images: Any, chosen: Any) -> Any:
        return ported.loss_of(*model(images, chosen), images, chosen)

    loss = _prepared(job, device, objective)

    def step() -> None:
        optimiser.zero_grad()
        loss(images, chosen).backward()
        optimiser.step()

    return step


def _matrix_product(job: dict[str, Any]) -> Call:
    """Multiply two square random matrices, by the library and in the precision that the job names."""
    n, half = job["size"], job.get("precision") == "bfloat16"
    if job["library"] == "pytorch":
        import torch

        device = torch.device(job.get("device", "cpu"))
        torch.backends.cuda.matmul.allow_tf32 = True
        kind = torch.bfloat16 if half else torch.float32
        a, b = (torch.rand(n, n, device=device).to(kind) for _ in range(2))
        return _several(job, lambda: torch.mm(a, b), device)
    import jax
    import jax.numpy as jnp

    kind = jnp.bfloat16 if half else jnp.float32
    a, b = (jax.random.uniform(jax.random.key(k), [n, n]).astype(kind) for k in range(2))
    product = jax.jit(jnp.matmul)
    times = range(job.get("times", 1))
    return lambda: jax.block_until_ready([product(a, b) for _ in times][-1])


def _copy(job: dict[str, Any]) -> Call:
    """Copy an array that no cache holds, with all cores or by the GPU."""
    import torch

    device = torch.device(job.get("device", "cpu"))
    source = torch.rand(job["size"], device=device)
    target = torch.empty_like(source)
    return _several(job, lambda: target.copy_(source), device)


def _several(job: dict[str, Any], once: Call, device: Any) -> Call:
    """Return a call that does something several times, and waits for a GPU."""
    import torch

    def call() -> None:
        for _ in range(job.get("times", 1)):
            once()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return call


MAKERS = {
    "ours": _ours,
    "naive flax": _naive_flax,
    "pytorch": _pytorch,
    "matrix product": _matrix_product,
    "copy": _copy,
    **family_work.MAKERS,
}


def make(job: dict[str, Any]) -> Call:
    """Return the call of a job: a mapping whose `who` names the contender, and the rest the work."""
    return MAKERS[job["who"]](job)
