"""Abstract classes whose concrete subclasses a configuration chooses among."""

import dataclasses
import functools
import inspect
import operator
from collections.abc import Mapping
from typing import Any, ClassVar


class Variant:
    """Mark an abstract class whose concrete subclasses a configuration chooses among by `kind`.

    A field annotated with such a class takes any of its subclasses in Python; in a configuration file
    it takes those that have been imported, by the `kind` that each declares.

    Attributes:
        assumed_kind: the kind of a mapping that names none; None if it has to name one.
    """

    assumed_kind: ClassVar[str | None] = None

    @classmethod
    def variants(cls) -> tuple[type, ...]:
        """Return the concrete subclasses that are dataclasses, in the order of their definition."""
        found, waiting = [], [cls]
        while waiting:
            one = waiting.pop(0)
            if dataclasses.is_dataclass(one) and not inspect.isabstract(one):
                found.append(one)
            waiting[:0] = one.__subclasses__()  # in front: what is derived from it comes next
        return tuple(found)

    @classmethod
    def completed(cls, tree: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the mapping of a configuration with what its own other keys say of parts left out."""
        return tree

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Validate an abstract class as the union of its variants."""
        if not inspect.isabstract(cls):
            return handler(source)
        # Made when a schema is first used, so that it holds whatever has been imported by then.
        return handler.generate_schema(functools.reduce(operator.or_, cls.variants()))
