"""Memory in large pages, for programs that take and return hundreds of megabytes at every step.

The pages of fresh memory are zeroed when they are first touched, one interrupt for each: with pages of 4 KiB
a sixth of a training step of the 2017 network goes there (docs/decisions/0005).
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from capsjax import signals

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = "CAPSJAX_HUGE_PAGES"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def wanted(env: Mapping[str, str], setting: Path) -> bool:
    """Return whether large pages can be had here, and are neither in use already nor declined.

    Args:
        env: environment variables; CAPSJAX_HUGE_PAGES=0 declines.
        setting: where Linux says who gets large pages: all who ask, with `madvise`.
    """
    name, version = platform.libc_ver()
    # The tunable came with glibc 2.35.
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    if TUNABLE in env.get("GLIBC_TUNABLES", "") or env.get(SWITCH) == "0":
        return False
    # With `always` every process has them already, with `never` none can.
    return setting.is_file() and "[madvise]" in setting.read_text(encoding="utf-8")


def restart_with_large_pages() -> None:
    """Restart this process, with the same command and an allocator that asks for large pages.

    The C library reads its tunables only once, when a process starts. Returns if there is nothing to gain.
    """
    if not sys.executable or not wanted(os.environ, SETTING):
        return
    tunables = os.environ.get("GLIBC_TUNABLES")
    setting = f"{TUNABLE}=1"
    os.environ["GLIBC_TUNABLES"] = f"{tunables}:{setting}" if tunables else setting
    with signals.kept():
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
