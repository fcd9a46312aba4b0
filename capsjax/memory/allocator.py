"""Memory of the C library: what a step gives back is kept for the next one, or comes in large pages.

A compiled program takes its temporary memory at every call and gives it back after it. The C library gives
large blocks back to the system, and the pages of fresh memory are zeroed when they are first touched, one
interrupt for each: with pages of 4 KiB up to a quarter of the processor time goes there (docs/decisions/0005,
0024).
"""

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = "CAPSJAX_HUGE_PAGES"
KEEP_SWITCH = "CAPSJAX_KEEP_MEMORY"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# What `keep_freed` sets, as malloc.h names it: bytes from which a block comes from the system and goes back
# to it, bytes free at the end of the heap from which they go back, and how many heaps there are.
KEPT = {"MMAP_THRESHOLD": (-3, 2**28), "TRIM_THRESHOLD": (-1, 2**29), "ARENA_MAX": (-8, 1)}


def keep_freed() -> bool:
    """Have the C library keep blocks of up to 256 MB that were freed, for the next step.

    One heap for all threads: another holds no block above 64 MB, and keeps what its thread freed from the
    others. Nothing changes where the environment sets one of these three (MALLOC_ARENA_MAX, for example),
    with CAPSJAX_KEEP_MEMORY=0, or without glibc 2.35 or later. Threads that have a heap already keep it.

    Returns:
        Whether all three were set.
    """
    # Before 2.35 glibc refuses the first of them, and either of the others alone would freeze it at 128 KB.
    if not _keeps(os.environ) or not recent_glibc():
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(number, size) for number, size in KEPT.values())


def recent_glibc() -> bool:
    """Return whether the C library is glibc 2.35 or later, which has all that is asked of it here."""
    if sys.platform != "linux":
        return False
    version = getattr(ctypes.CDLL(None), "gnu_get_libc_version", None)
    if version is None:
        return False
    version.restype = ctypes.c_char_p
    return tuple(map(int, version().decode().split(".")[:2])) >= (2, 35)


def _keeps(env: Mapping[str, str]) -> bool:
    """Return whether an environment leaves it to this package what is kept.

    Args:
        env: environment variables; CAPSJAX_KEEP_MEMORY=0 declines, and who sets one of the library's own
            decides on all of them.
    """
    own = any(f"MALLOC_{name}" in (key, key.removesuffix("_")) for key in env for name in KEPT)
    tunables = env.get("GLIBC_TUNABLES", "")
    own = own or any(f"glibc.malloc.{name.lower()}=" in tunables for name in KEPT)
    return not own and env.get(KEEP_SWITCH) != "0"


def wanted(env: Mapping[str, str], setting: Path) -> bool:
    """Return whether large pages can be had here, and are neither in use already nor declined.

    Args:
        env: environment variables; CAPSJAX_HUGE_PAGES=0 declines.
        setting: where Linux says who gets large pages: all who ask, with `madvise`.
    """
    if not recent_glibc() or TUNABLE in env.get("GLIBC_TUNABLES", "") or env.get(SWITCH) == "0":
        return False
    # With `always` every process has them already, with `never` none can.
    return setting.is_file() and "[madvise]" in setting.read_text(encoding="utf-8")


def restart_with_large_pages() -> None:
    """Restart this process, with the same command and an allocator that asks for large pages.

    The C library reads its tunables only once, when a process starts. Returns if there is nothing to gain.
    Who calls it keeps signals meanwhile.
    """
    if not sys.executable or not wanted(os.environ, SETTING):
        return
    tunables = os.environ.get("GLIBC_TUNABLES")
    setting = f"{TUNABLE}=1"
    os.environ["GLIBC_TUNABLES"] = f"{tunables}:{setting}" if tunables else setting
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
