"""The work of `family.py`, ours and PyTorch's: windows, EM routing, and a training step of an EM network."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]


def our_windows(job: Mapping[str, Any]) -> Call:
    """Make value and gradient of convolutional capsules of this package, votes formed or not."""
    import jax

    program, arrays = compile_windows(job)
    return lambda: jax.block_until_ready(program(*arrays))


def compile_windows(job: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Compile our convolutional capsules.

    Args:
        job: `sizes` with `u`, `W` and `stride`, `gradient`, `share`, and `formed` if votes are to be formed.

    Returns:
        The compiled function, and what it is called with.
    """
    import jax
    import jax.numpy as jnp

    import capsjax as cj
    from capsjax.bench.routing import gradient_named

    if folder := os.environ.get("CAPSJAX_BENCH_CACHE"):
        jax.config.update("jax_compilation_cache_dir", folder)
    sizes, routing = job["sizes"], cj.DynamicRouting(gradient=gradient_named(job["gradient"]))

    def votes_of(u: Any, W: Any) -> Any:
        votes = cj.window_votes(u, W, stride=sizes["stride"], share=job["share"])
        return cj.DenseVotes(votes.dense()) if job.get("formed") else votes

    def loss(u: Any, W: Any, weights: Any) -> Any:
        return jnp.sum(routing(votes_of(u, W)).pose * weights)

    keys = jax.random.split(jax.random.key(0), 3)
    u = 0.3 * jax.random.normal(keys[0], sizes["u"])
    W = 0.1 * jax.random.normal(keys[1], sizes["W"])
    poses = jax.eval_shape(lambda: routing(votes_of(u, W)).pose).shape
    arrays = u, W, jax.random.normal(keys[2], poses)
    return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arrays).compile(), arrays


def pytorch_windows(job: Mapping[str, Any]) -> Call:
    """Make the same in eager PyTorch, as public ports write it or with care."""
    import pytorch_family
    import torch

    torch.manual_seed(0)
    sizes = job["sizes"]
    u = torch.randn(*sizes["u"]).mul(0.3).requires_grad_()
    W = torch.randn(*sizes["W"]).mul(0.1).requires_grad_()
    ways = {"detached": job["gradient"] == "detached", "careful": job["formulation"] == "careful"}
    weights = torch.randn_like(pytorch_family.conv_capsules(u, W, stride=sizes["stride"], **ways))

    def call() -> None:
        u.grad = W.grad = None
        poses = pytorch_family.conv_capsules(u, W, stride=sizes["stride"], **ways)
        (poses * weights).sum().backward()

    return call


def pytorch_em(job: Mapping[str, Any]) -> Call:
    """Make value and gradient of EM routing in eager PyTorch, votes formed by one batched product."""
    import pytorch_family
    import torch

    torch.manual_seed(0)
    n = job["sizes"]
    b, i, j, d, e = (n[k] for k in ("batch", "children", "parents", "in_dim", "out_dim"))
    u, W = torch.randn(b, i, d).mul(0.3), torch.randn(i, d, j * e).mul(0.1)
    activation, betas = torch.rand(b, i).mul(0.9).add(0.1), 0.1 * torch.randn(2, j)
    trained = [tensor.requires_grad_() for tensor in (u, W, activation, betas)]
    weights = torch.randn(b, j, e)

    def call() -> None:
        for tensor in trained:
            tensor.grad = None
        votes = torch.bmm(u.transpose(0, 1), W).view(i, b, j, e).transpose(0, 1)
        mean, present = pytorch_family.em_routing(votes, activation, *betas)
        ((mean * weights).sum() + (present * weights[..., 0]).sum()).backward()

    return call


def pytorch_em_step(job: Mapping[str, Any]) -> Call:
    """Make a training step of the small EM network in eager PyTorch, in the ports' formulation."""
    import pytorch_family
    import torch

    torch.manual_seed(0)
    model = pytorch_family.EMNetwork(job["classes"])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    images = torch.rand(job["batch"], 1, 32, 32)
    labels = torch.arange(job["batch"]) % job["classes"]

    def step() -> None:
        optimiser.zero_grad()
        pytorch_family.spread_loss(model(images), labels).backward()
        optimiser.step()

    return step


def votes_bytes(sizes: Mapping[str, Any]) -> int:
    """Return how many bytes formed votes of a convolution would take."""
    b, h, w, a, p, _ = sizes["u"]
    k, _, _, j, _, e = sizes["W"]
    y, x = ((n - k) // sizes["stride"] + 1 for n in (h, w))
    return 4 * b * math.prod((y, x, k, k, a, j, p, e))


MAKERS = {
    "our windows": our_windows,
    "pytorch windows": pytorch_windows,
    "pytorch em": pytorch_em,
    "pytorch em step": pytorch_em_step,
}
