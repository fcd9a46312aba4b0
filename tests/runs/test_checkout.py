"""The commit that ran is the package's own, and none outside git."""

import subprocess

from capsjax.runs import description
from capsjax.runs.checkout import commit


def repository(folder):
    """Make a repository with one committed package; return the commit and the package."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(folder), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = folder / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return git("rev-parse", "HEAD"), package


def test_commit_and_changes_of_the_checkout_are_told(tmp_path, monkeypatch):
    head, package = repository(tmp_path / "here")
    repository(tmp_path / "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    uncached = commit.__wrapped__
    assert uncached(package) == {"commit": head, "dirty": False}
    (package / "notes.txt").write_text("not tracked")
    assert uncached(package) == {"commit": head, "dirty": False}
    (package / "__init__.py").write_text("x = 1\n")
    assert uncached(package) == {"commit": head, "dirty": True}


def test_outside_git_there_is_none(tmp_path, monkeypatch):
    uncached = commit.__wrapped__
    assert uncached(tmp_path) is None
    # A virtual environment within a repository is not of it.
    _, package = repository(tmp_path / "project")
    installed = package / "site-packages" / "capsjax"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert uncached(installed) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uncached(package) is None


def test_a_run_s_environment_holds_it_or_nothing(monkeypatch):
    found = {"commit": "0" * 40, "dirty": True}
    monkeypatch.setattr("capsjax.runs.description.commit", lambda: found)
    assert description.environment()["git"] == found
    monkeypatch.setattr("capsjax.runs.description.commit", lambda: None)
    assert "git" not in description.environment()
