"""What is timed against what: each contender makes a call that does one piece of work and waits for it."""

import os
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def _ours(job: dict[str, Any]) -> Call:
    """Make a step, a forward pass or routing alone, of this package."""
    import jax

    from capsjax.analysis import bench
    from capsjax.config import load_config

    folder = os.environ["CAPSJAX_BENCH_CACHE"]
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    mode = bench.gradient_named(job["gradient"])
    if job["work"] == "routing":
        work = bench.routing_work(
            bench.RoutingSizes(**job["sizes"]), gradient=mode, votes=job.get("votes", "auto")
        )
    else:
        config = load_config("mnist_sabour2017", {"model.routing.gradient": job["gradient"]})
        work = bench.step_work(config, job["batch"], forward=job["work"] == "forward")
    return work.call


def _naive_flax(job: dict[str, Any]) -> Call:
    import jax
    from naive_flax import make_step

    step, state = make_step(job["batch"])
    held = [state]

    def call() -> None:
        held[0] = jax.block_until_ready(step(*held[0]))

    return call


def _pytorch(job: dict[str, Any]) -> Call:
    import pytorch_capsnet as ported
    import torch

    torch.manual_seed(0)
    if job["work"] == "routing":
        n = {"num_iters": 3, **job["sizes"]}
        sizes = n["children"], n["parents"], n["in_dim"], n["out_dim"]
        layer = ported.DenseCapsules(*sizes, job["gradient"], n["num_iters"])
        u = torch.randn(n["batch"], n["children"], n["in_dim"]).mul(0.3).requires_grad_()
        weights = torch.randn(n["batch"], n["parents"], n["out_dim"])

        def route() -> None:
            u.grad = layer.weight.grad = None
            (layer(u) * weights).sum().backward()

        return route
    model = ported.CapsNet(job["gradient"])
    images = torch.rand(job["batch"], 1, 28, 28)
    chosen = torch.eye(10)[torch.arange(job["batch"]) % 10]
    if job["work"] == "forward":
        return torch.no_grad()(lambda: model(images, chosen))
    optimiser = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimiser.zero_grad()
        ported.loss_of(*model(images, chosen), images, chosen).backward()
        optimiser.step()

    return step


def _matrix_product(job: dict[str, Any]) -> Call:
    """Multiply two square float32 matrices, by the library that the job names."""
    n = job["size"]
    if job["library"] == "pytorch":
        import torch

        a, b = torch.rand(n, n), torch.rand(n, n)
        return lambda: torch.mm(a, b)
    import jax
    import jax.numpy as jnp

    a, b = jnp.ones([n, n]), jnp.ones([n, n])
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(a, b))


def _copy(job: dict[str, Any]) -> Call:
    """Copy an array that no cache holds, with all cores."""
    import torch

    source = torch.rand(job["size"])
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


MAKERS = {
    "ours": _ours,
    "naive flax": _naive_flax,
    "pytorch": _pytorch,
    "matrix product": _matrix_product,
    "copy": _copy,
}


def make(job: dict[str, Any]) -> Call:
    """Return the call of a job: a mapping whose `who` names the contender, and the rest the work."""
    return MAKERS[job["who"]](job)
