"""The forms of a contraction, of which each kind of machine gets the one that is fast there."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array, Float

from capsjax.kernels import children
from capsjax.votes.sharding import spread

PLATFORMS = ("cpu", "cuda", None)  # None is every other


class Forms(NamedTuple):
    """Hold functions of the same arguments that return the same, to rounding.

    They stand in a module, not in a function: what was compiled for one call serves the next.

    Attributes:
        cpu: one parent at a time.
        elsewhere: all parents in one product; None where the parts of `cpu` choose themselves.
        cuda: a pass over children in a kernel, which has no reverse mode of its own.
    """

    cpu: Callable[..., Any]
    elsewhere: Callable[..., Any] | None
    cuda: Callable[..., Any]

    def on(self, platform: str | None, kernel: bool) -> Callable[..., Any]:
        """Return the form for a platform.

        Args:
            platform: "cpu", "cuda" or None, every other.
            kernel: whether the form for CUDA can take the arrays.

        Returns:
            A function.
        """
        if platform == "cuda" and kernel:
            return self.cuda
        return self.cpu if platform == "cpu" or self.elsewhere is None else self.elsewhere


def accelerated() -> bool:
    """Return whether this process may compile for anything but a CPU."""
    return jax.default_backend() != "cpu"


def chosen(
    forms: Forms,
    votes: tuple[Float[Array, "i d b"], Float[Array, "j id e"]],
    given: tuple[Any, ...],
    **options: Any,
) -> Any:
    """Call the form for the platform that the program is compiled for.

    That is known when it is lowered, not yet when it is traced: a process with a GPU has a CPU too.

    Args:
        forms: what to choose from.
        votes: u and W, whose sizes say whether the kernel can take them.
        given: trees of arrays, u and W among them.
        **options: numbers that the forms take by name.

    Returns:
        What the form returns.
    """
    cpu = functools.partial(forms.cpu, **options)
    # Arrays in the types of which their devices stand are left to a form whose every step JAX knows.
    if not accelerated() or any(map(spread, votes)):
        return cpu(*given)
    # A kernel has one device: the compiler would gather for it what several devices share.
    kernel = jax.device_count() == 1 and children.fits(*votes)
    if not kernel and forms.elsewhere is None:
        return cpu(*given)
    flat, tree = jax.tree.flatten(given)
    shape = jax.eval_shape(cpu, *given)
    which = {"forms": forms, "kernel": kernel, "tree": tree, "options": tuple(options.items())}

    @jax.custom_vjp
    def one(*flat: Array) -> Any:
        return jax.tree.unflatten(jax.tree.structure(shape), _by_platform.bind(*flat, **which))

    def backward(flat: tuple[Array, ...], cotangent: Any) -> tuple[Array, ...]:
        return jax.vjp(lambda *flat: cpu(*tree.unflatten(flat)), *flat)[1](cotangent)

    one.defvjp(lambda *flat: (one(*flat), flat), backward)
    return one(*flat)


def _run(
    platform: str | None,
    *flat: Array,
    forms: Forms,
    kernel: bool,
    tree: Any,
    options: tuple[tuple[str, Any], ...],
) -> list[Array]:
    form = forms.on(platform, kernel)
    return jax.tree.leaves(form(*tree.unflatten(flat), **dict(options)))


@functools.cache
def _compiled(**which: Any) -> Callable[..., Any]:
    return jax.jit(functools.partial(_by_platform.bind, **which))


@functools.cache
def _over_batch(axes: tuple[int | None, ...], kernel: bool, **which: Any) -> Forms:
    """Return the same forms of flat arrays, some of which have one axis more."""
    given = (functools.partial(_run, name, kernel=kernel, **which) for name in PLATFORMS)
    cpu, cuda, elsewhere = (jax.vmap(form, axes) for form in given)
    return Forms(cpu, elsewhere, cuda)


def _batched(
    flat: Sequence[Array], axes: Sequence[int | None], **which: Any
) -> tuple[list[Array], list[int]]:
    forms, tree = _over_batch(tuple(axes), **which), jax.tree.structure(tuple(flat))
    found = _by_platform.bind(*flat, forms=forms, kernel=True, tree=tree, options=())
    return found, [0] * len(found)


def _shapes(*kinds: Any, **which: Any) -> list[ShapedArray]:
    given = (jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in kinds)
    found = jax.eval_shape(functools.partial(_run, "cpu", **which), *given)
    return [ShapedArray(x.shape, x.dtype) for x in found]


# `jax.lax.platform_dependent` chooses likewise, but in a loop that is differentiated JAX (0.10.2, 0.11.2)
# mistakes the number of its platform for an array of the backward pass.
_by_platform = Primitive("by_platform")
_by_platform.multiple_results = True
_by_platform.def_abstract_eval(_shapes)
_by_platform.def_impl(lambda *flat, **which: _compiled(**which)(*flat))
batching.primitive_batchers[_by_platform] = _batched
for name in PLATFORMS:
    lowering = mlir.lower_fun(functools.partial(_run, name), multiple_results=True)
    mlir.register_lowering(_by_platform, lowering, platform=name)
