"""Mistakes to make on purpose: each is one known from a published implementation, or near one."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """Hold one mistake: what to call it, the file, the text, what to put there, and the tests to run."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "softmax over the children",
        "numerics.py",
        "        return jax.nn.softmax(logits, axis=-1)\n",
        "        return jax.nn.softmax(logits, axis=-2)\n",
        ("tests/routing", "tests/test_numerics.py"),
    ),
    Mutation(
        "leaky logit forgotten",
        "numerics.py",
        "    return jax.nn.softmax(jnp.concatenate([none, logits], axis=-1), axis=-1)[..., 1:]\n",
        "    return jax.nn.softmax(logits + 0 * none, axis=-1)\n",
        ("tests/routing", "tests/test_numerics.py"),
    ),
    Mutation(
        "squash without the second term of its Jacobian",
        "numerics.py",
        "    return across * (x - radial) + along * radial\n",
        "    return across * x + 0 * along * radial\n",
        ("tests/test_numerics.py",),
    ),
    Mutation(
        "norm with a NaN gradient at zero",
        "numerics.py",
        "    root = jnp.sqrt(jnp.where(nonzero, squares, 1))\n",
        "    root = jnp.sqrt(squares)\n",
        ("tests/test_numerics.py",),
    ),
    Mutation(
        "votes stopped, bias and coupling live",
        "gradients/stop.py",
        "        constants = jax.lax.stop_gradient(inputs)\n"
        "        state = settle(routing, constants, num_updates)\n"
        "        return jax.lax.stop_gradient((routing.couple(state, constants), state))\n",
        "        constants = inputs._replace(votes=jax.lax.stop_gradient(inputs.votes))\n"
        "        state = settle(routing, constants, num_updates)\n"
        "        return routing.couple(state, constants), state\n",
        ("tests/gradients", "tests/routing"),
    ),
    Mutation(
        "nothing stopped",
        "gradients/stop.py",
        "        constants = jax.lax.stop_gradient(inputs)\n"
        "        state = settle(routing, constants, num_updates)\n"
        "        return jax.lax.stop_gradient((routing.couple(state, constants), state))\n",
        "        state = settle(routing, inputs, num_updates)\n"
        "        return routing.couple(state, inputs), state\n",
        ("tests/gradients", "tests/routing"),
    ),
    Mutation(
        "truncated gradient through one update more",
        "gradients/truncated.py",
        "        split = num_updates - self.last\n",
        "        split = max(0, num_updates - self.last - 1)\n",
        ("tests/gradients", "tests/routing"),
    ),
    Mutation(
        "one iteration more",
        "routing/base.py",
        "        num_updates = self.num_iters - 1\n        coupling, state",
        "        num_updates = self.num_iters\n        coupling, state",
        ("tests/routing",),
    ),
    Mutation(
        "logits shared over the batch",
        "routing/dynamic.py",
        "        return state + self.agreement(pose, inputs)\n",
        "        found = self.agreement(pose, inputs)\n"
        "        batch = tuple(range(found.ndim - 2))\n"
        "        return state + 0 * found + found.mean(batch, keepdims=True)\n",
        ("tests/routing",),
    ),
    Mutation(
        "logits replaced instead of added to",
        "routing/dynamic.py",
        "        return state + self.agreement(pose, inputs)\n",
        "        return self.agreement(pose, inputs)\n",
        ("tests/routing",),
    ),
    Mutation(
        "bias forgotten",
        "routing/base.py",
        "        pose = numerics.squash(s + jnp.broadcast_to(self.bias, s.shape))\n",
        "        pose = numerics.squash(s)\n",
        ("tests/routing",),
    ),
    Mutation(
        "adjoint of linear votes without one factor",
        "votes/contractions.py",
        "            u_bar = u_bar + coupling[:, None, :] * back\n",
        "            u_bar = u_bar + back\n",
        ("tests/test_votes.py",),
    ),
    Mutation(
        "leaky logit forgotten by linear votes",
        "votes/contractions.py",
        "    whole = whole + jnp.exp(-largest) if leaky else whole\n",
        "",
        ("tests/test_votes.py",),
    ),
    Mutation(
        "first coupling of the closed form without its leak",
        "votes/base.py",
        "        return self.shape[-2] + leaky\n",
        "        return self.shape[-2]\n",
        ("tests/test_votes.py", "tests/gradients"),
    ),
    Mutation(
        "block of patches filled up and not cut off",
        "convolution/direct.py",
        "    return y.reshape(blocks * size, *outs, f)[:b]\n",
        "    return y.reshape(blocks * size, *outs, f)[-b:]\n",
        ("tests/test_convolution.py",),
    ),
    Mutation(
        "closed form that forgets the earlier iterations",
        "routing/dynamic_vjp.py",
        "        return (total_bar + more, votes_bar), s_bar\n",
        "        return (total_bar, votes_bar), s_bar\n",
        ("tests/gradients",),
    ),
    Mutation(
        "primary capsules that mix space and channels",
        "modules/layers.py",
        "        return squash(x.reshape(x.shape[0], -1, config.dim))\n",
        "        return squash(x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1, config.dim))\n",
        ("tests/modules",),
    ),
    Mutation(
        "decoder masked by the prediction in training",
        "modules/networks.py",
        "            mask = longest(lengths) if one_hot is None else one_hot\n",
        "            mask = longest(lengths) if one_hot is not None else longest(lengths)\n",
        ("tests/modules",),
    ),
    Mutation(
        "margin not squared",
        "losses.py",
        "    short = jnp.square(jnp.maximum(0, positive_margin - lengths))\n",
        "    short = jnp.maximum(0, positive_margin - lengths)\n",
        ("tests/test_losses.py",),
    ),
    Mutation(
        "released loss averaged but not halved",
        "losses.py",
        '    return loss / (2 * lengths.shape[-1]) if preset == "released" else loss\n',
        '    return loss / lengths.shape[-1] if preset == "released" else loss\n',
        ("tests/test_losses.py",),
    ),
    Mutation(
        "last batch dropped at evaluation",
        "training/feed.py",
        "        for start in range(0, self.labels.shape[0], self.batch_size):\n",
        "        for start in range(0, self.labels.shape[0] - self.batch_size + 1, self.batch_size):\n",
        ("tests/training",),
    ),
    Mutation(
        "the same order in every epoch",
        "training/feed.py",
        "            jax.random.fold_in(self._order_key, number), self.labels.shape[0]\n",
        "            self._order_key, self.labels.shape[0]\n",
        ("tests/training",),
    ),
    Mutation(
        "a call of steps that leaves out its last",
        "training/step.py",
        "        state, values = jax.lax.fori_loop(start, stop, one, (state, nothing))\n",
        "        stop = jnp.maximum(stop - 1, start + 1)\n"
        "        state, values = jax.lax.fori_loop(start, stop, one, (state, nothing))\n",
        ("tests/training",),
    ),
    Mutation(
        "every epoch with the first one's order",
        "training/loop.py",
        "        elif within == 0:  # the images stay where they are\n",
        "        elif within < 0:\n",
        ("tests/training",),
    ),
    Mutation(
        "every device with the first one's share",
        "training/parallel.py",
        "            start = jax.lax.axis_index(AXIS) * size\n",
        "            start = 0 * jax.lax.axis_index(AXIS) * size\n",
        ("tests/training",),
    ),
    Mutation(
        "devices that do not add up",
        "training/parallel.py",
        "    return jax.lax.psum(tree, AXIS)\n",
        "    return tree\n",
        ("tests/training",),
    ),
    Mutation(
        "padding that counts",
        "training/step.py",
        "    kept = {name: jnp.where(weights > 0, value, 0) * weights for name, value in values.items()}\n",
        "    kept = dict(values)\n",
        ("tests/training",),
    ),
    Mutation(
        "frequency convolution with a wrong product",
        "convolution/frequency.py",
        "            of_kernel += [c, c - d, c + d]\n",
        "            of_kernel += [c, c + d, c - d]\n",
        ("tests/test_convolution.py",),
    ),
    Mutation(
        "bfloat16 that comes out unrounded",
        "convolution/__init__.py",
        "        return _round(as_given(*operands).astype(x.dtype))\n",
        "        return as_given(*operands).astype(x.dtype)\n",
        ("tests/test_convolution.py",),
    ),
    Mutation(
        "a precision that the network ignores",
        "modules/networks.py",
        "        start, precision = config.initialisation, config.precision\n",
        '        start, precision = config.initialisation, "float32"\n',
        ("tests/modules",),
    ),
    Mutation(
        "floats from 0 to 1 divided again for a run on bytes",
        "data/pixels.py",
        "            elif in_unit:\n                return 1.0\n",
        "            elif in_unit:\n                return self.scale\n",
        ("tests/data/test_pixels.py",),
    ),
    Mutation(
        "bytes that are masks taken for nearly black",
        "data/pixels.py",
        "            if fits and (high > 1 or full <= 1 or self.high <= 1):\n",
        "            if fits:\n",
        ("tests/data/test_pixels.py",),
    ),
    Mutation(
        "a network that takes any pixel",
        "modules/networks.py",
        "    if not (low >= 0 and high <= 1):  # NaN neither\n",
        "    if low < 0:\n",
        ("tests/test_units.py",),
    ),
    Mutation(
        "a split that forgets how large a class is",
        "data/classes.py",
        "(rank + 0.5) / sizes[given])\n",
        "rank + 0.5)\n",
        ("tests/data/test_classes.py",),
    ),
    Mutation(
        "a class of one that may be held out",
        "data/classes.py",
        "    place = np.where(rank == 0, 0.0, ",
        "    place = np.where(rank < 0, 0.0, ",
        ("tests/data/test_classes.py",),
    ),
    Mutation(
        "a shift by the whole image",
        "data/trainable.py",
        "    if max_shift >= side:\n",
        "    if max_shift > side:\n",
        ("tests/data/test_trainable.py",),
    ),
    Mutation(
        "evaluation in the unit of the type, not of the run",
        "experiment.py",
        "dataset.scale if data is None else run.unit.factor(dataset.test.images)",
        "dataset.scale",
        ("tests/data/test_trainable.py",),
    ),
    Mutation(
        "a fixed point that accumulates",
        "routing/fixed_point.py",
        "        return self.damping * state + (1 - self.damping) * asked\n",
        "        return state + (1 - self.damping) * asked\n",
        ("tests/routing",),
    ),
    Mutation(
        "damping that keeps what it should replace",
        "routing/fixed_point.py",
        "        return self.damping * state + (1 - self.damping) * asked\n",
        "        return (1 - self.damping) * state + self.damping * asked\n",
        ("tests/routing",),
    ),
    Mutation(
        "implicit gradient without the cotangent of the logits",
        "gradients/implicit.py",
        "    z = logits_bar + system.weigh(y)\n",
        "    z = system.weigh(y)\n",
        ("tests/gradients", "tests/routing"),
    ),
    Mutation(
        "implicit gradient after one step of the series",
        "gradients/implicit.py",
        "    y = scale * SOLVERS[mode.solver](system, right / scale, mode)\n",
        "    y = right + system.pull(system.weigh(right))\n",
        ("tests/gradients", "tests/routing"),
    ),
    Mutation(
        "an unsolved example passed as solved",
        "gradients/implicit.py",
        "    return jnp.where(system.spread(solved), y, jnp.nan)\n",
        "    return jnp.where(system.spread(solved | True), y, jnp.nan)\n",
        ("tests/routing",),
    ),
    Mutation(
        "examples that go on after they have settled",
        "gradients/base.py",
        "    return jnp.where(routing.spread(settled, inputs), state, new), settled\n",
        "    return jnp.where(routing.spread(settled & False, inputs), state, new), settled\n",
        ("tests/routing",),
    ),
    Mutation(
        "conjugate gradients past a point that updates leave",
        "gradients/implicit.py",
        "        far = jnp.where(going, length / jnp.where(curvature > 0, curvature, jnp.nan), 0)\n",
        "        far = jnp.where(going, length / curvature, 0)\n",
        ("tests/routing",),
    ),
    Mutation(
        "traced number made a constant",
        "checks.py",
        "    return value.item() if is_number and not is_traced(value) else value\n",
        "    return value.item() if is_number else value\n",
        ("tests/test_traced_numbers.py",),
    ),
    Mutation(
        "every child has every parent",
        "votes/base.py",
        "        return self.combine(self.couple(self.zeros(), leaky))\n",
        "        return self.combine(jnp.ones(self.shape[:-1])) / (self.shape[-2] + leaky)\n",
        ("tests/gradients/test_ragged.py",),
    ),
    Mutation(
        "parameters that are NaN unnoticed",
        "training/step.py",
        "    finite = [jnp.isfinite(leaf).all() for leaf in (loss, *params.values())]\n",
        "    finite = [jnp.isfinite(leaf).all() for leaf in (loss,)]\n",
        ("tests/training/test_loop.py",),
    ),
    Mutation(
        "a signal while it validates saves nothing",
        "training/loop.py",
        "                except signals.Interrupted:\n                    checkpoints.save(",
        "                except signals.Interrupted:\n                    str(",
        ("tests/test_signals.py",),
    ),
    Mutation(
        "validation that a signal cut short is not measured again",
        "training/loop.py",
        '    if at_end and validation is not None and not writer.has("validation", first):\n',
        "    if False:\n",
        ("tests/test_signals.py",),
    ),
    Mutation(
        "training error of a single batch",
        "analysis/arms.py",
        "    count = max(int(np.sum(steps > 0.9 * steps[-1])), min(LEAST, len(steps)))\n",
        "    count = 1\n",
        ("tests/analysis/test_arms.py",),
    ),
    Mutation(
        "entropy bound of another number of classes",
        "analysis/panels.py",
        "        top = math.log(bound)\n",
        "        top = math.log(bound - 1)\n",
        ("tests/analysis/test_panels.py",),
    ),
    Mutation(
        "arms of one mode drawn alike",
        "analysis/panels.py",
        "    return [STYLES[count % len(STYLES)] for count in before]\n",
        "    return [STYLES[0] for _ in before]\n",
        ("tests/analysis/test_panels.py",),
    ),
)
