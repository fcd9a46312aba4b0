"""The remedies that stand in the package's texts, found by their verbs."""

import ast
import re
from pathlib import Path

VERBS = (
    "add|allow|bring|call|choose|copy|cut|delete|divide|give|keep|lay|leave|let|lower|make room|move|name|"
    "number|pass|put|remove|rename|repair|resume|restore|route|run the|save|say how|set|shift|start again|"
    "take|time what|train (?:a smaller|again|anew|longer|the)|try again|use|wait|write"
)
# A clause that begins with such a verb, maybe after what it is for, at the beginning or after a stop or "or".
BEFORE = r"(?:where|for|from|if|of|to|in) [^:;]*?[ ,:]\s?|or "
REMEDY = re.compile(rf"(?:^|[;:.] |, or )((?:{BEFORE})?(?:{VERBS})\b[^;]*)", re.IGNORECASE)
# Texts that no error says: what a command does, and what a page or a docstring tells.
TOLD = ("cli/parser.py", "reports/page.py", "reports/panels.py", "reports/side_by_side.py")


def text_of(node: ast.AST) -> str:
    """Write a string expression with {} for what is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return "{}"


def remedies(package: Path) -> dict[str, str]:
    """Find every remedy; by its text the file that it stands in."""
    found: dict[str, str] = {}
    for file in sorted(package.rglob("*.py")):
        place = str(file.relative_to(package))
        tree = ast.parse(file.read_text("utf-8"))
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        within = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
            if part is not node
        }
        for node in ast.walk(tree):
            said = isinstance(node, ast.Constant | ast.JoinedStr) and " " in text_of(node)
            if said and place not in TOLD and not {id(node)} & (documented | within):
                for remedy in REMEDY.findall(text_of(node)):
                    found[remedy.strip()] = place
    return found
