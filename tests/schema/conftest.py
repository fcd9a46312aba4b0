"""A schema to try the configuration engine on, and what its tests share."""

import dataclasses
from types import SimpleNamespace
from typing import Annotated, Literal

import pydantic
import pytest

from capsjax.checks import UserError, check_choice, check_float, check_int
from capsjax.cli.flags import parse_overrides
from capsjax.schema import tree
from capsjax.schema.text import read_yaml


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    kind: Literal["stop"] = "stop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Full:
    remat: bool = False
    kind: Literal["full"] = "full"  # the last, as in a class that inherits its other fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truncated:
    kind: Literal["truncated"] = "truncated"
    last: int

    def __post_init__(self):
        check_int(self, "last", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dynamic:
    kind: Literal["dynamic"] = "dynamic"
    num_iters: int = 3
    gradient: Stop | Full | Truncated = Stop()

    def __post_init__(self):
        check_int(self, "num_iters", low=1, high=100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    kind: Literal["uniform"] = "uniform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    hidden: tuple[int, ...] = (512, 1024)
    activation: str = "relu"

    def __post_init__(self):
        check_choice(self, "activation", ("relu", "tanh"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    channels: int
    kernel: tuple[int, int] = (9, 9)
    routing: Annotated[Dynamic | Uniform, pydantic.Field(discriminator="kind")]
    decoder: Decoder | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    learning_rate: float = 1e-3
    steps: int | None = None
    parallel: Literal["jit", "pmap"] = "jit"
    shift: bool = True
    stages: tuple[Full | Truncated, ...] = ()

    def __post_init__(self):
        check_float(self, "learning_rate", low=0, open_low=True)
        if self.parallel == "pmap" and self.shift:
            raise ValueError("pmap takes\nno shift")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    name: str
    seed: int = 0
    model: Model
    training: Training = Training()


TEXT = """
name: toy
model:
  channels: 16
  routing:
    kind: dynamic
    num_iters: 2
    gradient:
      kind: truncated
      last: 1
training:
  learning_rate: 1e-3
"""


def read(text):
    return read_yaml(text, "toy.yaml")


def build(*flags, **changes):
    """Build the toy config with flags, and with dotted keys of the file itself changed."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    text = tree.merge(read(TEXT), changed)
    overrides = parse_overrides(flags)
    return tree.build(Config, text, source="toy.yaml", overrides=overrides)


def fail(call, *args, **kwargs):
    """Call what must fail, and give its message, which has two lines."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


@pytest.fixture(scope="session")
def toy():
    """The schema's classes, the text of a file for it, and how to read and build that."""
    classes = Stop, Full, Truncated, Dynamic, Uniform, Decoder, Model, Training, Config
    named = {cls.__name__: cls for cls in classes}
    return SimpleNamespace(**named, text=TEXT, read=read, build=build)


@pytest.fixture(scope="session")
def message():
    return fail
