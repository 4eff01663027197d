"""Whose fault an error is: told by what it is, and by what led to it."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_sep import errors
from lightning_sep.errors import ConfigError, NonFiniteLoss, StorageError
from lightning_sep.faults import breaks_process, chain, is_machines
from lightning_sep.fsio import PATIENCE

BREAKS = [
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA driver initialization failed"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, unhandled system error"),
    RuntimeError("device-side assert triggered"),
    RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed."),
    RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly"),
    RuntimeError("unable to write: bus error, out of shared memory (shm)"),
    torch.AcceleratorError("device gone"),
    torch.OutOfMemoryError("no room on the device"),
    torch.distributed.DistBackendError("a rank is gone"),
]
MACHINES = [
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 17 bytes"),
    RuntimeError("Out of memory"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EIO, "Input/output error"),
    ConnectionResetError(),
]
SETTINGS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ValueError("CUDA error: a mere text"),
    ZeroDivisionError(),
    NonFiniteLoss("no loss of epoch 0 was finite"),
    ConfigError("head.amount"),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    FileExistsError(errno.EEXIST, "File exists"),
]


@pytest.mark.parametrize("error", BREAKS, ids=str)
def test_fault_28_after_an_accelerators_error_the_process_is_broken(error: Exception) -> None:
    assert breaks_process(error)
    assert is_machines(error)


@pytest.mark.parametrize("error", MACHINES, ids=repr)
def test_fault_14_what_may_be_gone_at_another_try_is_the_machines(error: Exception) -> None:
    assert is_machines(error)
    assert not breaks_process(error)


@pytest.mark.parametrize("error", SETTINGS, ids=repr)
def test_fault_14_what_will_happen_again_is_the_settings(error: Exception) -> None:
    assert not is_machines(error)
    assert not breaks_process(error)


def raised(make: Callable[[], None]) -> Exception:
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("it was to fail")


def from_another() -> None:
    try:
        raise RuntimeError("CUDA error: unknown error")
    except RuntimeError as error:
        raise ValueError("the metric failed") from error


def while_another() -> None:
    try:
        raise MemoryError
    except MemoryError:
        raise ValueError("the metric failed")  # noqa: B904


def test_what_led_to_an_error_counts() -> None:
    assert breaks_process(raised(from_another))
    assert is_machines(raised(from_another))
    assert is_machines(raised(while_another))
    assert not breaks_process(raised(while_another))


def test_errors_that_lead_to_each_other_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert list(chain(one)) == [one, other]
    assert not is_machines(one)


def test_fault_11_a_full_disk_is_waited_for_however_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = StorageError("no space left")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert PATIENCE.is_for(full)
    assert is_machines(full)
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory")
    monkeypatch.setattr(PATIENCE, "home", tmp_path)
    assert not PATIENCE.is_for(missing)
    monkeypatch.setattr(PATIENCE, "home", tmp_path / "away")
    assert PATIENCE.is_for(missing), "fault 27: the home itself is not there"
    assert is_machines(missing)
    assert not PATIENCE.is_for(PermissionError(errno.EACCES, "Permission denied"))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *((name, 2) for name in ("ConfigError", "DataError", "StorageError")),
        *((name, 1) for name in ("NonFiniteLoss", "LeaseLost", "Busy", "Interrupted")),
        *((name, 1) for name in ("SweepError", "LightningSepError")),
    ],
)
def test_what_the_user_can_mend_ends_with_2_and_all_else_with_1(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, errors.LightningSepError)
    assert issubclass(kind, ValueError) is (name in ("ConfigError", "DataError"))
