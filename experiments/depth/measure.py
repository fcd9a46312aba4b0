"""What becomes of lengths, of the image and of gradients in ten layers of convolutional capsules?

    python experiments/depth/measure.py [--out DIR] [--layers N]

Writes DIR/measurements.json and depth.png; without --out, into the folder results beside this file. Nothing
is trained: images go through a network as it begins.
"""

import argparse
import datetime
import json
import platform
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from figures import draw
from flax import nnx

import capsjax as cj
from capsjax.layers import Around, ConvCapsulesConfig, ConvConfig, Features, PrimaryConfig
from capsjax.numerics import safe_norm

ROUTINGS = {
    "uniform": cj.UniformRouting(),
    "dynamic, stop": cj.DynamicRouting(gradient=cj.StopGradient()),
    "dynamic, full": cj.DynamicRouting(gradient=cj.FullGradient()),
}
STEM = ConvConfig(channels=16, kernel=3, stride=2, padding="SAME")
# A pose of 8 components begins about sqrt(8) long; times 1/sqrt(8) it is 0.5 after squash.
PRIMARY = PrimaryConfig(types=8, dim=8, kernel=1, stride=1, coupling=0.35)


def measure(routing, *, residual, layers, images, seed):
    """Send images through a network as it begins.

    Args:
        routing: of every layer.
        residual: whether each layer's poses are added to those that came in.
        layers: how many.
        images: [b, h, w, 1].
        seed: of the parameters.

    Returns:
        Of each layer, [layers]: the mean length of what comes out; the share of its mean square that differs
        from image to image; and the lengths of the gradient, of a random probe of the last poses, by what
        comes in and by the layer's matrices.
    """
    around = Around(
        image_shape=images.shape[1:],
        num_classes=10,
        routing=routing,
        initialisation="keep_length",
        precision="float32",
    )
    rngs, shape, value = nnx.Rngs(seed), Features(images.shape[1:3], 1), images
    for layer in (STEM, PRIMARY):
        value = layer.apply(layer.build(shape, around, rngs=rngs), value).value
        shape = layer.shape(shape, around)
    layer = ConvCapsulesConfig(types=8, dim=8, kernel=3, padding="SAME", residual=residual)
    split = [nnx.split(layer.build(shape, around, rngs=rngs)) for _ in range(layers)]
    graph, states = split[0][0], jax.tree.map(lambda *x: jnp.stack(x), *(one for _, one in split))
    probe = jax.random.normal(jax.random.key(seed + 1), value.pose.shape) / len(images)

    def through(states, added):
        # All layers are alike, so that one is compiled.
        def step(pose, given):
            state, more = given
            children = cj.Capsules(pose + more, safe_norm(pose + more))
            pose = layer.apply(nnx.merge(graph, state), children).value.pose
            varying = jnp.mean(jnp.square(pose - pose.mean(0, keepdims=True))) / jnp.mean(
                jnp.square(pose)
            )
            return pose, (jnp.mean(safe_norm(pose)), varying)

        pose, seen = jax.lax.scan(step, value.pose, (states, added))
        return jnp.sum(pose * probe), seen

    nothing = jnp.zeros((layers, *value.pose.shape))
    run = jax.jit(jax.grad(through, argnums=(0, 1), has_aux=True))
    (by_weights, by_poses), (lengths, varying) = run(states, nothing)

    def size(gradient):
        return jnp.linalg.norm(gradient.reshape(layers, -1), axis=1)

    found = {
        "lengths": lengths,
        "varying": varying,
        "by_poses": size(by_poses),
        "by_weights": size(jax.tree.leaves(by_weights)[0]),
    }
    # Where every pose has become 0 nothing is shared out: None, as JSON has no NaN.
    return {
        name: [x if np.isfinite(x) else None for x in np.asarray(array, float).tolist()]
        for name, array in found.items()
    }


def main(arguments=None):
    """Measure every stack, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--images", type=int, default=32)
    arguments = parser.parse_args(arguments)
    dataset = cj.load_config("digits").data.load()
    images = jnp.asarray(dataset.train.images[: arguments.images], jnp.float32)
    found = {
        "machine": platform.machine(),
        "date": str(datetime.date.today()),
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
        "layers": arguments.layers,
        "stacks": {
            f"{name}{', residual' if residual else ''}": measure(
                routing,
                residual=residual,
                layers=arguments.layers,
                images=images / images.max(),
                seed=0,
            )
            for residual in (False, True)
            for name, routing in ROUTINGS.items()
        },
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "measurements.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, arguments.out)


if __name__ == "__main__":
    main()
