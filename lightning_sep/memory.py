"""How the C library's allocator behaves in a training process on a CPU."""

import ctypes

# Numbers of <malloc.h>.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4


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
