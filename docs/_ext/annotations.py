"""Signatures as one would write them: `Float[Array, "*batch i d"]`, and defaults without their fields."""

import ast
import inspect
from typing import TYPE_CHECKING, Any

from flax import nnx

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Shortened(ast.NodeTransformer):
    """Shorten what a signature spells out: JAX's array type, and the fields of default values."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Call the array type by its public name."""
        return ast.Name("Array") if ast.unparse(node) == "jaxlib._jax.Array" else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Leave out what a default value was made with; `kind` only repeats its class."""
        fields = [keyword for keyword in node.keywords if keyword.arg != "kind"]
        return ast.Call(node.func, [ast.Constant(...)] if fields else [], [])


def shorten(signature: str, returns: str | None) -> tuple[str, str | None]:
    """Shorten a signature and, where there is one, its return annotation."""
    signature = signature.replace("<factory>", "...")  # of a dataclass, made anew for each value
    tree = ast.parse(f"def f{signature}{f' -> {returns}' if returns else ''}: ...")
    function = Shortened().visit(tree).body[0]
    after = ast.unparse(function.returns) if function.returns else None
    return f"({ast.unparse(function.args)})", after


def process(
    app: "Sphinx", what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str | None] | None:
    """Show a module's constructor, which its metaclass hides, and shorten every signature."""
    from sphinx.util.inspect import stringify_signature

    if what == "class" and issubclass(obj, nnx.Module):
        whole = inspect.signature(obj.__init__)
        parameters = [p for p in whole.parameters.values() if p.name != "self"]
        shown = whole.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        signature = stringify_signature(shown, unqualified_typehints=True)
    return shorten(signature, returns) if signature else None


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx."""
    app.connect("autodoc-process-signature", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
