"""Which commit of capsjax runs, where it runs from a checkout."""

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

SECONDS = 10  # after which git is given up: a file system that hangs is no reason not to train


@functools.cache
def commit(package: Path = Path(__file__).parents[1]) -> dict[str, Any] | None:
    """Return the commit of the checkout that holds a package, and whether tracked files differ from it.

    Args:
        package: the package's folder.

    Returns:
        `commit`, 40 hexadecimal digits, and `dirty`; None outside git, without git, or where the repository
        around the package does not track it, as around a virtual environment.
    """
    # A hook of git sets variables that lead to another repository.
    known = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
        return subprocess.run(command, env=known, timeout=SECONDS, **options).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
