"""The forms of a contraction, of which each kind of machine gets the one that is fast there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from capsjax.kernels import children
from capsjax.votes.sharding import varying


class Forms(NamedTuple):
    """Hold functions of the same arguments that return the same, to rounding.

    Attributes:
        cpu: one parent at a time.
        elsewhere: all parents in one product; None where the parts of `cpu` choose themselves.
        cuda: a pass over children in a kernel, which has no reverse mode of its own.
    """

    cpu: Callable[..., Any]
    elsewhere: Callable[..., Any] | None
    cuda: Callable[..., Any]


def chosen(
    forms: Forms,
    votes: tuple[Float[Array, "i d b"], Float[Array, "j id e"]],
    given: tuple[Any, ...],
) -> Any:
    """Call the form for the platform that the program is compiled for.

    That is known when it is lowered, not yet when it is traced.

    Args:
        forms: what to choose from.
        votes: u and W, whose sizes say whether the kernel can take them.
        given: the arguments, u and W among them.

    Returns:
        What the form returns.
    """

    def plain(*given: Any) -> Any:
        if forms.elsewhere is None:
            return forms.cpu(*given)
        return jax.lax.platform_dependent(*given, cpu=forms.cpu, default=forms.elsewhere)

    # A kernel has one device: the compiler would gather for it what several devices share.
    shared = jax.device_count() > 1 or any(varying(x) for x in votes)
    if shared or not children.fits(*votes):
        return plain(*given)

    @jax.custom_vjp
    def both(*given: Any) -> Any:
        return jax.lax.platform_dependent(*given, cuda=forms.cuda, default=plain)

    def backward(given: tuple[Any, ...], cotangent: Any) -> Any:
        return jax.vjp(plain, *given)[1](cotangent)

    both.defvjp(lambda *given: (both(*given), given), backward)
    return both(*given)
