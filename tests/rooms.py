"""The rooms of the package, and who imports whom, read from its files; drawn in CONTRIBUTING.

`python -m tests.rooms` writes the picture into CONTRIBUTING.md, where a test compares it.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- rooms: python -m tests.rooms -->\n", "<!-- end of rooms -->\n"


def module_name(root, file):
    """Return the dotted name of a file below the package's folder."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(root, file, package="capsjax"):
    """Return what a file imports, wherever in it: modules of the package, and other packages."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import, expected `from {package}...`"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first != package:
                outside.add(first)
                continue
            # The longest part of the name that is a file or folder; the rest is defined inside it.
            while rest and not (
                (root.joinpath(*rest)).is_dir() or root.joinpath(*rest).with_suffix(".py").is_file()
            ):
                rest.pop()
            inside.add(".".join(rest) or "__init__")
    return inside, outside


def arrows(root):
    """Return of each room, a folder or a file at the top, those that it imports from."""
    found = {}
    for file in sorted(root.rglob("*.py")):
        room = module_name(root, file).split(".")[0]
        inside, _ = imports_of(root, file)
        found.setdefault(room, set()).update(name.split(".")[0] for name in inside)
    return {room: others - {room} for room, others in found.items()}


def reduced(edges):
    """Leave out arrows that a longer way says already."""

    def reach(room):
        return set().union(*({other} | reach(other) for other in edges.get(room, ())))

    return {
        room: {o for o in others if not any(o in reach(p) for p in others - {o})}
        for room, others in edges.items()
    }


def picture(root, levels):
    """Draw rooms as boxes on their levels, with an arrow to what each imports, as Mermaid's text.

    Args:
        root: the package's folder.
        levels: from a level's name to its rooms, the lowest first.

    Returns:
        The fenced block. Arrows that follow from others are left out, and files without imports stand
        on their level without any.
    """
    lines = ["```mermaid", "flowchart TB"]
    known = arrows(root)
    for level, rooms in reversed(levels.items()):
        lines.append(f"  subgraph {level}")
        lines += [f'    {room}["{_label(root, room)}"]' for room in sorted(set(rooms) & set(known))]
        lines.append("  end")
    drawn = {room for rooms in levels.values() for room in rooms}
    for room, others in sorted(reduced(known).items()):
        lines += [f"  {room} --> {other}" for other in sorted(others) if {room, other} <= drawn]
    return "\n".join([*lines, "```"]) + "\n"


def _label(root, room):
    return f"{room}/" if (root / room).is_dir() else room


def drawn_in(text):
    """Return the picture that a text holds between its marks."""
    return text.split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    from tests.test_layers import LEVELS, PACKAGE

    page = ROOT / "CONTRIBUTING.md"
    whole = page.read_text("utf-8")
    begin, end = whole.index(BEGIN) + len(BEGIN), whole.index(END)
    page.write_text(whole[:begin] + picture(PACKAGE, LEVELS) + whole[end:], "utf-8")
