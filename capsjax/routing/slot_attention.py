"""Slot attention: slots compete for inputs, and each is rewritten by what it won."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, normal, ones
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import check_int
from capsjax.routing.base import IterativeRouting, Parents
from capsjax.routing.means import means_of
from capsjax.routing.parameters import Parameter, Sizes, zeros
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes


class SlotInputs(NamedTuple):
    """Hold what slot attention depends on.

    Attributes:
        votes: the values, votes of shape (*batch, i, j, e).
        poses: the inputs, of which keys are made, [*batch, i, d].
        trained: what is trained, by name.
    """

    votes: Votes
    poses: Float[Array, "*batch i d"]
    trained: dict[str, Array]


class SlotState(NamedTuple):
    """Hold what passes from one iteration to the next.

    Attributes:
        slots: the parents so far, [*batch, j, e].
        logits: how well their queries fit the keys, as held.
    """

    slots: Float[Array, "*batch j e"]
    logits: PerPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotAttentionRouting(IterativeRouting[SlotInputs, SlotState]):
    """Let slots compete for inputs, and rewrite each slot by the mean of the values that it won.

    With inputs x_i, values V_ij, which are the votes, and slots v_j that begin as trained vectors,

    b_ij = (x_i key) . (LayerNorm(v_j) query) / sqrt(e),   c = softmax of b over the slots

    m_j = sum_i c_ij V_ij / sum_i c_ij

    v_j <- g_j + MLP(LayerNorm(g_j)),   g_j = GRU(m_j, v_j),   a_j = sum_i c_ij / sum_ik c_ik

    The paper's values are votes by one matrix, `shared_votes(x, W, parents=j)`, and its inputs are normalised
    before, which is left to the network. The activations, shares of the inputs, add up to 1; the paper has
    none. It draws the slots' beginning anew for every example; here it is `slots`, trained, and to draw it is
    to pass what was drawn. The released code adds 1e-8 to every c_ij before it divides by their sum.

    The state is the slots: a mode that stops the coupling stops them with it, so that of the last iteration
    the values, GRU and MLP are live in every mode, and keys, queries and the slots' beginning get a gradient
    from those alone that go back through updates. Where the slots come to rest, which nothing promises,
    `ImplicitGradient(solver="neumann")` differentiates that; the derivative is not symmetric, so
    conjugate gradients are refused.

    Args:
        num_iters: r, the number of readouts; the paper's 3.
        gradient: how the gradient treats the coupling and the slots before; the paper goes through all.
        hidden: width of the MLP, at least 1; the paper's is twice e.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        Locatello et al. 2020, "Object-centric learning with slot attention", algorithm 1; Chang, Griffiths
        and Levine 2022, "Object representations as fixed points", for the implicit gradient.
    """

    takes = frozenset({"poses"})
    activations = "shares"

    hidden: int = 128
    kind: Literal["slot_attention"] = "slot_attention"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "hidden", low=1)

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe where slots begin, keys and queries, both normalisations, the GRU and the MLP."""
        (_, j, d, e), m = sizes, self.hidden
        matrix = glorot_uniform()
        # Each gate a matrix of its own: as one block its width would make the numbers smaller.
        gates = glorot_uniform(batch_axis=0)
        known = {
            "slots": ((j, e), "one vector for each parent, [j, e]", normal(1.0)),
            "key": ((d or 0, e), "from inputs to keys, [d, e]", matrix),
            "query": ((e, e), "from slots to queries, [e, e]", matrix),
            "gru_input": ((3, e, e), "reset, update and candidate of the mean, [3, e, e]", gates),
            "gru_slot": ((3, e, e), "reset, update and candidate of the slot, [3, e, e]", gates),
            "gru_bias": ((4, e), "the three, and that of the slot in the candidate, [4, e]", zeros),
            "mlp_in": ((e, m), "into the hidden layer, [e, hidden]", matrix),
            "mlp_in_bias": ((m,), "of the hidden layer, [hidden]", zeros),
            "mlp_out": ((m, e), "out of the hidden layer, [hidden, e]", matrix),
            "mlp_out_bias": ((e,), "of what is added to a slot, [e]", zeros),
        }
        for name in ("query", "mlp"):
            axes = f"one number for each component of a slot before the {name}, [e]"
            known[f"{name}_gain"] = ((e,), axes, ones)
            known[f"{name}_offset"] = ((e,), axes, zeros)
        return {name: Parameter(*one) for name, one in known.items()}

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> SlotInputs:
        """Take the values, the inputs and what is trained.

        Args:
            votes: the values, arranged to be contracted many times.
            children: the inputs as poses, [*batch, i, d].
            params: everything that `parameters` names.

        Returns:
            All three.
        """
        return SlotInputs(votes, jnp.asarray(children.pose), dict(params))

    def init(self, inputs: SlotInputs) -> SlotState:
        """Return the slots' beginning, the same for every example."""
        slots, batch = inputs.trained["slots"], inputs.votes.shape[:-3]
        return self.state_of(jnp.broadcast_to(slots, (*batch, *slots.shape)), inputs)

    def state_of(self, resting: Float[Array, "*batch j e"], inputs: SlotInputs) -> SlotState:
        """Compare slots with inputs: b_ij = (x_i key) . (LayerNorm(v_j) query) / sqrt(e).

        Args:
            resting: the slots, [*batch, j, e], which come to rest where the iterations do.
            inputs: values, inputs and what is trained.

        Returns:
            Slots and logits.
        """
        p = inputs.trained
        normal_slots = numerics.layer_norm(resting, p["query_gain"], p["query_offset"])
        query = normal_slots @ p["query"] / math.sqrt(resting.shape[-1])  # [*batch, j, e]
        # The key's matrix at the slots, which are fewer than the inputs.
        pulled = query @ p["key"].T  # [*batch, j, d]
        logits = jnp.einsum("...id,...jd->...ij", inputs.poses, pulled)  # [*batch, i, j]
        return SlotState(resting, inputs.votes.pairs.from_array(logits))

    def resting(self, state: SlotState) -> Float[Array, "*batch j e"]:
        """Return what comes to rest where the iterations do: the slots."""
        return state.slots

    def logits(self, state: SlotState) -> PerPair:
        """Return b_ij, as held."""
        return state.logits

    def readout(self, t: Any, coupling: PerPair, state: SlotState, inputs: SlotInputs) -> Parents:
        """Rewrite the slots by the means of what they won.

        Args:
            t: number of the readout; the same for all.
            coupling: c_ij, as held.
            state: the slots before.
            inputs: values, inputs and what is trained.

        Returns:
            Slots [*batch, j, e], and their shares of the inputs as activations, [*batch, j].
        """
        del t
        p = inputs.trained
        mean, share = means_of(inputs.votes, coupling)
        slots = _gru(mean, state.slots, p)
        wide = numerics.layer_norm(slots, p["mlp_gain"], p["mlp_offset"]) @ p["mlp_in"]
        wide = jax.nn.relu(wide + jnp.broadcast_to(p["mlp_in_bias"], wide.shape))
        more = wide @ p["mlp_out"]  # [*batch, j, e]
        slots = slots + more + jnp.broadcast_to(p["mlp_out_bias"], more.shape)
        return Parents(slots, share)

    def update(self, t: Any, state: SlotState, inputs: SlotInputs) -> SlotState:
        """Rewrite the slots, and compare them with the inputs again.

        Args:
            t: number of the update; the same for all.
            state: slots and logits.
            inputs: values, inputs and what is trained.

        Returns:
            The new ones.
        """
        parents = self.readout(t, self.couple(state, inputs), state, inputs)
        return self.state_of(parents.pose, inputs)

    def residual(
        self, coupling: PerPair, state: SlotState, inputs: SlotInputs
    ) -> Float[Array, "*batch"]:
        """Measure by how much one more update would move the coupling that it moves most.

        Args:
            coupling: the last c_ij, as held.
            state: what it was made from.
            inputs: values, inputs and what is trained.

        Returns:
            max_ij of the change, [*batch]; 0 where slots have come to rest.
        """
        moved = self.couple(self.update(0, state, inputs), inputs)  # any t: updates use none
        return inputs.votes.pairs.max_abs(moved - coupling)


def _gru(
    x: Float[Array, "*batch j e"], h: Float[Array, "*batch j e"], p: Mapping[str, Array]
) -> Float[Array, "*batch j e"]:
    """Let gates decide what of a slot stays: h' = (1 - z) n + z h, with the candidate n and the gate z."""
    of_x = jnp.einsum("...je,gef->g...jf", x, p["gru_input"])  # [3, *batch, j, e]
    of_h = jnp.einsum("...je,gef->g...jf", h, p["gru_slot"])  # [3, *batch, j, e]
    bias = [jnp.broadcast_to(one, x.shape) for one in p["gru_bias"]]
    reset = jax.nn.sigmoid(of_x[0] + of_h[0] + bias[0])
    stays = jax.nn.sigmoid(of_x[1] + of_h[1] + bias[1])
    # The reset after the product, as PyTorch's and the released code's: it is of the bias too.
    candidate = jnp.tanh(of_x[2] + bias[2] + reset * (of_h[2] + bias[3]))
    return (1 - stays) * candidate + stays * h
