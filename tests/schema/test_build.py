"""Dataclasses built from trees, and the schema for editors."""

import abc
import dataclasses
from typing import Literal

from capsjax.cli.flags import parse_overrides
from capsjax.schema.text import to_tree
from capsjax.schema.tree import build, merge
from capsjax.schema.variant import Variant


def test_the_real_dataclasses_are_built(toy):
    config = toy.build()
    routing = toy.Dynamic(num_iters=2, gradient=toy.Truncated(last=1))
    assert config == toy.Config(name="toy", model=toy.Model(channels=16, routing=routing))
    parts = config, config.model, config.model.routing, config.model.routing.gradient
    assert [type(part) for part in parts] == [toy.Config, toy.Model, toy.Dynamic, toy.Truncated]
    assert hash(config) == hash(toy.build())


def test_a_string_is_short_for_a_kind(toy):
    assert toy.build("--model.routing", "uniform").model.routing == toy.Uniform()
    assert toy.build(model__routing__gradient="full").model.routing.gradient == toy.Full()
    config = toy.build("--training.stages", "[full, {kind: truncated, last: 2}]")
    assert config.training.stages == (toy.Full(), toy.Truncated(last=2))


def test_an_optional_part_may_be_null_or_a_mapping(toy):
    assert toy.build("--model.decoder", "null").model.decoder is None
    assert toy.build("--model.decoder", "{}").model.decoder == toy.Decoder()
    decoder = toy.build("--model.decoder.hidden", "[3]").model.decoder
    assert decoder == toy.Decoder(hidden=(3,))


def test_numbers_and_booleans_are_strict_but_an_integer_is_a_number(toy):
    rate = toy.build("--training.learning_rate", "1").training.learning_rate
    assert (rate, type(rate)) == (1.0, float)
    assert toy.build("--training.steps", "300_000").training.steps == 300_000
    assert toy.build("--training.shift", "false").training.shift is False


def test_overrides_may_be_merged_before_or_by_build(toy):
    flags = parse_overrides(["--model.routing", "uniform", "--seed", "3"])
    before = merge(toy.read(toy.text), flags)
    merged = build(toy.Config, before, source="toy.yaml", overrides=flags)
    assert merged == toy.build("--model.routing", "uniform", "--seed", "3")


def test_where_any_string_may_stand_it_is_no_kind(toy, message):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Either:
        value: str | toy.Uniform

    assert build(Either, {"value": "uniform"}, source="f").value == "uniform"
    assert build(Either, {"value": {"kind": "uniform"}}, source="f").value == toy.Uniform()
    assert message(build, Either, {"value": 3}, source="f") == (
        "f: value: got 3\n  expected a string, in quotes where it looks like another type"
        " or a mapping with kind one of uniform"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    children: "tuple[Node, ...]"


class Shape(Variant, abc.ABC):
    @abc.abstractmethod
    def area(self): ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(Shape):
    kind: Literal["square"] = "square"
    side: int = 1

    def area(self):
        return self.side**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rectangle(Square):
    kind: Literal["rectangle"] = "rectangle"
    height: int

    def area(self):
        return self.side * self.height


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Shape | None = None


def test_an_abstract_class_stands_for_the_union_of_its_variants(message):
    drawing = build(Drawing, {"shape": {"kind": "rectangle", "height": 2}}, source="f")
    assert drawing == Drawing(shape=Rectangle(height=2))
    assert build(Drawing, to_tree(drawing), source="f") == drawing
    assert build(Drawing, {"shape": "square"}, source="f").shape == Square()
    assert message(build, Drawing, {"shape": "squere"}, source="f") == (
        "f: shape: got 'squere'\n  expected one of square, rectangle; did you mean 'square'?"
    )
    assert message(build, Drawing, {"shape": 3}, source="f") == (
        "f: shape: got 3\n  expected a mapping with kind one of square, rectangle or null"
    )
    tree = {"shape": {"kind": "rectangle", "height": 2, "sides": 1}}
    assert message(build, Drawing, tree, source="f") == (
        "f: shape.sides: unknown key, with value 1\n"
        "  expected one of kind, side, height; did you mean 'side'?"
    )


def test_annotations_are_evaluated_once(toy, monkeypatch):
    toy.build()
    monkeypatch.delattr("typing.get_type_hints")
    assert toy.build(name="again").name == "again"


def test_a_variant_defined_after_the_first_validation_is_found(message):
    class Tone(Variant, abc.ABC):
        @abc.abstractmethod
        def pitch(self): ...

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Low(Tone):
        kind: Literal["low"] = "low"

        def pitch(self):
            return 1

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Chord:
        tones: tuple[Tone, ...]

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Song:
        chord: Chord

    def sing(*tones):
        return build(Song, {"chord": {"tones": tones}}, source="f").chord.tones

    assert sing("low") == (Low(),)
    assert message(sing, "high") == "f: chord.tones.0: got 'high'\n  expected one of low"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class High(Low):
        kind: Literal["high"] = "high"
        by: int = 0

    assert sing("high", {"kind": "high", "by": 2}, "low") == (High(), High(by=2), Low())


def test_a_dataclass_may_stand_within_itself():
    tree = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert build(Node, tree, source="f") == Node(name="a", children=(Node(name="b", children=()),))
