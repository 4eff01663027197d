"""What `status --watch` shows, and how it ends."""

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lightning_sep import cli
from lightning_sep.sweep.watch import frame

SWEEP: dict[str, Any] = {
    "sweep": "heads",
    "question": "which activation separates best, on material that reaches full scale, of all?",
    "state": "running",
    "metric": "val/r2",
    "trials": {"total": 20, "finished": 3, "failed": 1, "running": 2},
    "finals": {"total": 5},
    "best": {"value": 0.51234, "overrides": ["head=tanh", "optimizer.learning_rate=0.003"]},
    "running": [
        {"trial": 4, "overrides": ["head=\x1b[31msine", "x=1"], "by": "process 7 on n1"}
        | {"epoch": 3, "epochs": 20, "metric": "val/r2", "value": 0.25},
        {"trial": 5, "seed": 1001, "overrides": ["head=cosine"], "by": "process 8 on n2"},
    ],
    "waiting": [],
    "failed": [{"trial": 2, "overrides": ["head=linear"], "reason": "training diverged"}],
    "jobs": {"line": "job 12: 2 run on n1, n2, 3 wait (Priority: jobs of higher priority first)"},
    "folder": "/runs/sweeps/heads",
}

ALONE = {"run": "4f1c09", "state": "stopped", "overrides": ["head=tanh"], "reason": "it goes on"}


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_shown_in_lines_that_fit(width: int) -> None:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(frame([SWEEP], [ALONE], {}))
    text = console.export_text()
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "\x1b" not in text
    assert len(lines) == 15  # none is wrapped
    assert re.search(r"epoch 3/20, [\d.-]+ ", text)  # the value is what one watches
    assert "1 failed" in text
    for words in ("running  4", "5 s1001", "failed   2"):
        assert words in text, text
    if width == 120:
        assert "best val/r2 0.5123 (head=tanh optimizer.learning_rate=0.003)" in text
        assert "process 7 on n1" in text


def test_time_left_is_told_once_something_was_done() -> None:
    clocks: dict[str, Any] = {}
    frame([SWEEP], [], clocks)
    frame([SWEEP | {"trials": SWEEP["trials"] | {"finished": 5}}], [], clocks)
    [clock] = clocks.values()
    clock.began_s -= 44.0
    later = SWEEP | {"trials": SWEEP["trials"] | {"finished": 9}}
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(frame([later], [], clocks))
    assert "about 3 min left" in console.export_text()  # 4 of them in 44 s, 15 to go


@pytest.mark.parametrize("end", ["q", "Ctrl-C"])
def test_it_is_ended_by_a_key_and_leaves_nothing_behind(tmp_path: Path, end: str) -> None:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "lightning_sep", "status", "--watch"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "LIGHTNING_SEP_HOME": str(tmp_path / "runs"), "TERM": "xterm"},
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = b""

    def read_until(condition: Callable[[], bool]) -> None:  # or it would wait to be read
        nonlocal seen
        until_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until_s, seen
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 4096)

    try:
        read_until(lambda: b"no sweeps" in seen and b"q ends" in seen)
        if end == "q":
            os.write(master, b"q")
        else:
            process.send_signal(signal.SIGINT)
        read_until(lambda: process.poll() is not None)
    finally:
        process.kill()
    assert process.wait() == 0
    assert list(tmp_path.iterdir()) == []
    os.close(master)
    os.close(slave)


def test_it_needs_a_terminal_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--json"]):
        assert cli.main(["status", "--watch", *more]) == 2
        assert capsys.readouterr().err.count("\n") == 1
