"""The allocator of a training process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, sys
from lightning_sep.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * 64_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_given_back_is_not_cleared_anew_at_every_step() -> None:
    # 20 times 64 MB: their pages are cleared each time, or once.
    assert page_faults("returned") > 5 * page_faults("kept")


LOADED = """
import gc, sys
sys.path.insert(0, sys.argv[1])
from lightning_sep.memory import load
counts = [gc.get_freeze_count()]
for _ in range(2):
    load("some", "more")
    counts.append(gc.get_freeze_count())
import some
assert gc.isenabled() and not some.searched
assert counts[0] < counts[1] == counts[2], counts
"""


def test_modules_that_stay_are_searched_neither_while_nor_after_they_are_loaded(
    tmp_path: Path,
) -> None:
    (tmp_path / "some.py").write_text("import gc\nsearched = gc.isenabled()\n")
    (tmp_path / "more.py").touch()
    subprocess.run([sys.executable, "-c", LOADED, str(tmp_path)], cwd=ROOT, check=True)


GIVEN = """
import sys
from pathlib import Path
from lightning_sep.memory import give_memory_back, keep_freed_memory
if not keep_freed_memory():
    sys.exit(77)

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

def work(size):
    pieces = [bytes(size) for _ in range(100_000_000 // size)]
    pieces.append(pieces)  # only a collection finds out that nobody uses it

before = resident()
for size in (1_000, 40_000, 300_000):
    work(size)
    if sys.argv[1] == "returned":
        give_memory_back()
print(resident() - before)
"""


def test_memory_between_runs_goes_back_to_the_system() -> None:
    def grown_kib(mode: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", GIVEN, mode], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode == 77:
            pytest.skip("this C library has no mallopt")
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert grown_kib("kept") > 90_000
    assert grown_kib("returned") < 20_000
