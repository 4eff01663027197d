"""How the allocator of the C library and the collector of Python behave in our processes."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from importlib import import_module

# Numbers of <malloc.h>.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4

_frozen = False


def keep_freed_memory() -> bool:
    """Keep what tensors give back, instead of returning it to the system at every step.

    By default, glibc maps each large tensor anew and unmaps it when it is freed, and the system
    clears every page of it again: a net with many outputs spends most of its time there. The
    numbers of a run do not depend on it.

    Returns:
        Whether the C library took the settings; other C libraries have none.
    """
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError, TypeError):
        return False


def give_memory_back() -> None:
    """Return to the system what is free, between two runs of one process.

    Kept memory is of use from step to step; a process of many runs would keep as much as all of
    them together ever had apart. What is alive after the first run is mostly modules, which stay:
    later collections pass it over, since looking at half a million objects takes as long as a
    small run.
    """
    global _frozen
    gc.collect()
    if not _frozen:
        gc.freeze()
        _frozen = True
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def load(*modules: str) -> None:
    """Import modules; neither now nor later are circles looked for in what they hold: it stays."""
    if any(one not in sys.modules for one in modules):
        with no_collection():
            for one in modules:
                import_module(one)
            gc.freeze()


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without the search for circles among objects: records and trials are trees, and many."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
