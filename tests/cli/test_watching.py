"""What a command shows while it works, on a terminal and beside one."""

import io
import re
from contextlib import redirect_stderr

import pytest

from lightning_sep.cli import main

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
RUN = [
    "train", "task=autoregression", "net=lstm_small", "examples.train=1024", "examples.val=16",
    "examples.test=16", "trainer.epochs=2", "tracking=none",
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    """A working folder of the test's own, and a terminal that rich draws on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    return home


def watched(*arguments: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each line that a terminal of so many columns shows of a command, one moment after another."""
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with redirect_stderr(stream):
        assert main(arguments) == 0
    return re.split(r"[\r\n]+", CODES.sub("", stream.getvalue()))


def test_a_run_tells_what_it_is_and_how_far(here, monkeypatch, capsys):
    told = watched(*RUN, columns=80, monkeypatch=monkeypatch)
    [said] = [line for line in told if line.startswith("run ")]
    run = re.match(r"run ([0-9a-f]{12}) finished", capsys.readouterr().out)[1]
    assert said == f"run {run} on CPU, 1 thread, data synthetic: {here / run}"
    steps = [line for line in told if re.match(r"epoch \d/2 0:00:\d\d ━", line)]
    assert steps, told
    assert all(len(line) <= 80 for line in steps)
    assert any(
        re.search(r"━ \d+/128 · loss 0\.\d+ · \S+/s · \d+ s left\s*$", line) for line in steps
    )
    assert [line[:9] for line in told if "train/loss" in line] == ["epoch 1/2", "epoch 2/2"]

    told = watched("generate", run, "--seconds", "1", "--out", "made.wav", columns=80,
                   monkeypatch=monkeypatch)  # fmt: skip
    assert any(re.match(r"made.wav ━.* 100%", line) for line in told)


def test_beside_a_terminal_a_run_tells_a_line_an_epoch(here, capsys):
    assert main([*RUN, "examples.train=64"]) == 0
    told = capsys.readouterr().err
    assert "━" not in told
    assert [line[:9] for line in told.splitlines() if "epoch" in line] == ["epoch 1/2", "epoch 2/2"]
