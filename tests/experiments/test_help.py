"""Scripts say what they do when asked for help, and do nothing."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*(ROOT / "experiments").glob("*/*.py"), *(ROOT / "benchmarks").glob("*.py")]
INTERNAL = {"worker.py"}  # started by other scripts alone


def test_every_script_reads_its_words_with_argparse():
    runs = [path for path in SCRIPTS if '__name__ == "__main__"' in path.read_text("utf-8")]
    assert len(runs) > 15
    for path in runs:
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert path.name in INTERNAL or {"ArgumentParser", "parse_args"} <= names, path


@pytest.mark.parametrize(
    "name", ["gradient_modes/finding.py", "gradient_modes/figures.py", "routing_matters/tables.py"]
)
def test_help_writes_nothing(name, capsys, monkeypatch):
    path = ROOT / "experiments" / name
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("something is written"))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert stopped.value.code == 0
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))).splitlines()[0] in " ".join(
        capsys.readouterr().out.split()
    )
