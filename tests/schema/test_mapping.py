"""A mapping from names of the user's own: built, overridden by flags, written, and its mistakes told."""

import dataclasses
import textwrap
from collections.abc import Mapping

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.cli.flags import parse_overrides
from capsjax.layers import DenseConfig
from capsjax.runs.config import Config
from capsjax.schema import text, tree

TEXT = """
data: digits
model:
  kind: network
  layers:
    stem: {kind: conv, channels: 8, kernel: 3, normalisation: batch}
    primary: {kind: primary_capsules, types: 2, dim: 4, kernel: 3}
    hidden: {kind: dense_capsules, types: 5, routing: {kind: dynamic, num_iters: 2}}
    classes: {kind: dense_capsules, dim: 4}
  routing: {kind: dynamic, num_iters: 4, gradient: full}
training: {epochs: 1}
"""


def build(*flags):
    return tree.build(
        Config,
        text.read_yaml(TEXT, "net.yaml"),
        source="net.yaml",
        overrides=parse_overrides(flags),
    )


def layers(*flags):
    return build(*flags).model.layers


def test_names_keep_their_order_and_it_is_written_as_it_was_read():
    config = build()
    assert list(config.model.layers) == ["stem", "primary", "hidden", "classes"]
    again = tree.build(Config, text.read_yaml(text.dump(config), "again"), source="again")
    assert again == config
    assert hash(again.model) == hash(config.model)
    swapped = dict(list(config.model.layers.items())[::-1])
    assert dataclasses.replace(config.model, layers=swapped) != config.model


def test_a_flag_changes_one_layer():
    before = layers()
    after = layers("--model.layers.hidden.dim", "3", "--model.layers.stem.normalisation", "null")
    assert after["hidden"] == dataclasses.replace(before["hidden"], dim=3)
    assert after["stem"] == dataclasses.replace(before["stem"], normalisation=None)
    assert (after["primary"], after["classes"]) == (before["primary"], before["classes"])


def test_a_routing_s_gradient_is_a_flag_whether_the_layer_names_a_routing_or_not():
    stop = cj.StopGradient()
    found = layers(
        *("--model.layers.hidden.routing.gradient", "full"),
        *("--model.layers.classes.routing.gradient", "stop"),
    )
    assert found["hidden"].routing == cj.DynamicRouting(num_iters=2, gradient=cj.FullGradient())
    assert found["classes"].routing == cj.DynamicRouting(num_iters=4, gradient=stop)
    other = layers("--model.routing", "em", "--model.layers.classes.routing.gradient", "stop")
    assert other["classes"].routing == cj.EMRouting(gradient=stop)
    assert (
        layers("--model.layers.classes.routing", "uniform")["classes"].routing
        == cj.UniformRouting()
    )


def test_a_layer_is_added_or_becomes_another_kind():
    found = layers("--model.layers.more", "{kind: dense_capsules, types: 3}")
    assert list(found)[-1] == "more"
    assert found["more"] == DenseConfig(types=3)
    assert layers("--model.layers.stem", "resnet")["stem"].channels == (16, 32)


def test_null_takes_a_layer_out_and_stands_for_none_in_a_file():
    assert list(layers("--model.layers.hidden", "null")) == ["stem", "primary", "classes"]
    arms = "compare: {arms: {a: {}, b: {model.routing: uniform}}, reference: a}"
    values = text.read_yaml(TEXT + arms, "net.yaml")
    found = tree.build(Config, values, source="it", overrides={"compare.arms.b": None})
    assert list(found.compare.arms) == ["a"]
    with pytest.raises(UserError, match=r"model\.layers\.new(\.kind)?: got null"):
        layers("--model.layers.new", "null")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    parts: Mapping[str, Part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    groups: Mapping[str, Group]


def test_null_takes_out_what_stands_in_a_mapping_within_a_mapping():
    values = {"groups": {"a": {"parts": {"x": {}, "y": {"size": 2}}}, "b": {"parts": {}}}}
    flags = {"groups.a.parts.x": None, "groups.b": None}
    found = tree.build(Groups, values, source="it", overrides=flags)
    assert found.groups == {"a": Group(parts={"y": Part(size=2)})}
    # What an arm changes is not named by its user: null there is a value.
    arms = {
        "compare": {"arms": {"a": {}, "b": {"model.decoder": {"kind": "mlp"}}}, "reference": "a"}
    }
    read = text.read_yaml(TEXT, "net.yaml") | arms
    overrides = {"compare.arms.b.model.decoder": None}
    config = tree.build(Config, read, source="it", overrides=overrides)
    assert config.compare.arms["b"] == {"model.decoder": None}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model.layers.classes.dim", "0"], "model.layers.classes.dim: got 0"),
        (
            ["--model.layers.classes.dims", "3"],
            "model.layers.classes.dims: unknown key, with value 3\n  expected one of types, dim, .*"
            "did you mean 'dim'",
        ),
        (
            ["--model.layers.classes.kernel", "3"],
            "kernel belongs to kind conv or primary_capsules",
        ),
        (
            ["--model.layers.classes.kind", "dense_capsule"],
            "model.layers.classes.kind: got 'dense_capsule'\n.*did you mean 'dense_capsules'",
        ),
        (
            ["--model.layers.stem", "{kind: cnv, channels: 4, stride: 2}"],
            "model.layers.stem.kind: got 'cnv'\n.*did you mean 'conv'",
        ),
        (
            ["--model.layers.new", "{dim: 3}"],
            "model.layers.new.kind: missing\n  expected one of .*conv, .*resnet",
        ),
        (
            ["--model.layers.hiden", "null"],
            "model.layers.hiden: got null\n.*name of one that is there.*mean 'model.layers.hidden'",
        ),
        (["--model.layers.clases.dim", "3"], "kind: missing\n.*mean 'model.layers.classes'"),
        (
            ["--model.layers.stem", "3"],
            "model.layers.stem: got 3\n  expected a mapping with kind one of .*conv,",
        ),
        (
            ["--model.layers", "3"],
            "model.layers: got 3\n  expected a mapping from names, each to a mapping with kind one of",
        ),
        (
            ["--model.layers.classes.routing.gradient", "stp"],
            "model.layers.classes.routing.gradient: got 'stp'\n.*did you mean 'stop'",
        ),
        (["--model.layers.loss", "conv"], "got 'loss'\n  expected a name"),
        (["--model.layer.stem", "conv"], "model.layer: unknown key.*\n.*did you mean 'layers'"),
        (
            ["--model.layers.stem.normalisation", "{kind: group, groups: 3}"],
            r"normalisation.groups: got 3\n  expected a divisor of the layer's 8 channels",
        ),
        (["--model.stem.kernel", "3"], "model.stem: unknown key.*\n.*stem belongs to kind capsnet"),
    ],
)
def test_mistakes_name_the_layer_s_key(flags, said):
    with pytest.raises(UserError, match=f"(?s){said}"):
        build(*flags)


def test_a_layer_of_one_s_own_is_one_file(tmp_path, monkeypatch):
    """What a new layer takes: a module that is imported, nothing else."""
    (tmp_path / "my_layers.py").write_text(
        textwrap.dedent("""
        import dataclasses
        from typing import Literal

        from flax import nnx

        from capsjax.layers import Features, Layer


        class Halves(nnx.Module):
            def __call__(self, x):
                return x[:, ::2, ::2]


        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Halved(Layer):
            kind: Literal["halved"] = "halved"

            def shape(self, given, around):
                return Features(tuple(-(-size // 2) for size in given.grid), given.channels)

            def build(self, given, around, *, rngs):
                return Halves()
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    from capsjax.layers import shapes

    found = build("--model.layers.stem", "halved", "--model.layers.primary.kernel", "2").model
    assert found.layers["stem"] == my_layers.Halved()
    assert [str(step.shape) for step in shapes(found, (8, 8, 1), 10)][:2] == [
        "features [4, 4, 1]",
        "capsules [8, 4]",
    ]
