"""Every public name has its place in the reference, else the build warns, and fails as with any warning."""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def public_names(package: str) -> list[str]:
    """List the public names of a package and of its parts that have an `__all__`, each by its best name.

    What the package itself exports is known by that name; the rest by that of the part it comes from.
    """
    top = importlib.import_module(package)
    names = {f"{package}.{name}": getattr(top, name) for name in top.__all__}
    known = {id(value) for value in names.values()}
    for found in pkgutil.iter_modules(top.__path__, f"{package}."):
        part = importlib.import_module(found.name)
        for name in getattr(part, "__all__", ()):
            if id(getattr(part, name)) not in known:
                names[f"{found.name}.{name}"] = getattr(part, name)
    return sorted(names)


def undocumented(names: Iterable[str], inventory: Iterable[str]) -> list[str]:
    """Return the names that an inventory of documented objects lacks."""
    return sorted(set(names) - set(inventory))


def check(app: "Sphinx", env: "BuildEnvironment") -> None:
    """Warn where a public name of capsjax is in no page."""
    from sphinx.util import logging

    documented = env.domains.python_domain.objects
    for name in undocumented(public_names("capsjax"), documented):
        logging.getLogger(__name__).warning("public, but in no page of docs/api/: %s", name)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
