"""Whose fault an error is: the setting's, the machine's, or a process's that is past saving."""

import re
from collections.abc import Iterator

from lightning_sep.errors import RankLost
from lightning_sep.fsio import PATIENCE

# What an accelerator, its libraries or a killed data loader leave behind: the process that met it
# cannot be trusted with another run.
_BROKEN = re.compile(
    r"CUDA error|CUDA driver|CUDA-capable|CUDA GPUs|CUDA out of memory|CUDNN|cuDNN|CUBLAS|cuBLAS"
    r"|CUFFT|cuFFT|NCCL|HIP error|MIOpen|device-side assert|unspecified launch failure"
    r"|DataLoader worker .*(killed|exited)|bus error|shared memory \(shm\)"
)
_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def breaks_process(error: BaseException) -> bool:
    """Whether the process that met this error must end: later calls would fail as well."""
    return any(
        type(one).__name__ in ("AcceleratorError", "OutOfMemoryError", "DistBackendError")
        or (isinstance(one, RuntimeError) and _BROKEN.search(str(one)) is not None)
        for one in chain(error)
    )


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory."""
    return any(
        isinstance(one, MemoryError)
        or type(one).__name__ == "OutOfMemoryError"
        or (isinstance(one, RuntimeError) and _MEMORY.search(str(one)) is not None)
        for one in chain(error)
    )


def is_machines(error: BaseException) -> bool:
    """Whether an error may be gone at another try: no memory, a disk, an accelerator, a loader, a
    process that trained together with this one.

    A file that is missing is not among them: it will be missing again.
    """
    if PATIENCE.is_for(error) or breaks_process(error) or lacks_memory(error):
        return True
    return any(
        isinstance(one, RankLost)
        or (isinstance(one, OSError) and not isinstance(one, FileNotFoundError | FileExistsError))
        for one in chain(error)
    )
