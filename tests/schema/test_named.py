"""A mapping that does not change: order counts, equal ones are one."""

import pytest

from capsjax.schema.named import Named


def test_order_and_values_make_it():
    given = {"b": 1, "a": 2}
    named = Named(given)
    given["c"] = 3
    assert list(named.items()) == [("b", 1), ("a", 2)]
    assert named == {"b": 1, "a": 2} == Named(named)
    assert named != Named({"a": 2, "b": 1})
    assert hash(named) == hash(Named({"b": 1, "a": 2}))
    assert named != 3
    assert repr(named) == "{'b': 1, 'a': 2}"
    with pytest.raises(TypeError):
        named["b"] = 2
