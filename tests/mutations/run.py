"""Make each mistake in a copy of the package, and see that a test notices.

Run from anywhere: `python tests/mutations/run.py [WORD ...]` runs those whose names contain a word. Exits
with 1 if a mistake went unnoticed. The checkout itself is not touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load_mutations() -> tuple:
    """Load the lists beside this file, however this file was started."""
    sys.path.insert(0, str(ROOT))
    from tests.mutations.mutations import MUTATIONS

    return MUTATIONS


def copy_checkout(target: Path) -> None:
    """Copy what the tests need, the compilation cache included."""
    kept = ("capsjax", "configs", "tests", "docs", "experiments", "pyproject.toml", ".jax_cache")
    for name in kept:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, target / name)


def first_failure(folder: Path, tests: tuple[str, ...]) -> str | None:
    """Run tests on the copy; return the first that failed, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--no-header", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (
        lines[0].split(" - ")[0] if lines else f"exit code {done.returncode}: {done.stdout[-500:]}"
    )


def main(words: list[str]) -> int:
    """Run the mutations; return how the process should exit."""
    chosen = [m for m in load_mutations() if not words or any(word in m.name for word in words)]
    unnoticed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_checkout(folder)
        for number, mutation in enumerate(chosen, start=1):
            path = folder / "capsjax" / mutation.path
            original = path.read_text("utf-8")
            if original.count(mutation.old) != 1:
                raise ValueError(f"{mutation.name}: {mutation.path} does not hold the text once")
            path.write_text(original.replace(mutation.old, mutation.new), "utf-8")
            start = time.monotonic()
            failure = first_failure(folder, mutation.tests)
            path.write_text(original, "utf-8")
            seconds = time.monotonic() - start
            print(
                f"{number:2}/{len(chosen)} {mutation.name}: {failure or 'UNNOTICED'} ({seconds:.0f} s)",
                flush=True,
            )
            if failure is None:
                unnoticed.append(mutation.name)
    print(f"{len(chosen) - len(unnoticed)} noticed, {len(unnoticed)} unnoticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
