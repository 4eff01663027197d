"""What a command shows while it works, on a terminal and beside one."""

import io
import json
import re
from contextlib import redirect_stderr

import pytest

from lightning_sep.cli import main
from lightning_sep.watching import show_epoch

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
RUN = [
    "train", "task=autoregression", "net=lstm_small", "examples.train=4096", "examples.val=16",
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
        re.search(r"━ \d+/512 · loss 0\.\d+ · \S+/s · \d+ s left\s*$", line) for line in steps
    )
    assert [line[:9] for line in told if " · val/r2 " in line] == ["epoch 1/2", "epoch 2/2"]

    told = watched("generate", run, "--seconds", "1", "--out", "made.wav", columns=80,
                   monkeypatch=monkeypatch)  # fmt: skip
    assert any(re.match(r"made.wav ━.* 100%", line) for line in told)


def test_a_run_is_found_by_the_beginning_of_its_id(here, capsys):
    assert main([*RUN, "examples.train=64", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    run = record["run_id"]
    assert main(["status", run[:8]]) == 0
    value = f"{record['metrics']['val/r2']:.4g}"
    told = (
        f"finished: {run} ({' '.join([*RUN[1:], 'examples.train=64'])}): epoch 2/2, val/r2 {value}"
    )
    assert capsys.readouterr().out == f"{told}: {here / run}\n"
    assert main(["status", run[:8], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch"] == 2
    assert main(["logs", run[:8]]) == 0
    assert capsys.readouterr().out == (here / run / "log.txt").read_text()
    for words, said in [
        (
            ["stop", run],
            f"It is a run: `lightning-sep status {run}` and `lightning-sep logs {run}`",
        ),
        (["logs", run, "0"], f"no sweep '{run}'"),
        (["logs", "nix"], "no sweep 'nix'"),
        (
            ["export", run, "--csv", "a.csv"],
            f"'{run}' is no board but a run: 'single' is the board",
        ),
        (["leaderboard", run], f"'{run}' is no board but a run: 'single' is the board that has it"),
    ]:
        assert main(words) == 2
        assert said in capsys.readouterr().err
    (here / f"{run[:8]}0").mkdir()
    (here / f"{run[:8]}0" / "attempts.jsonl").touch()
    assert main(["status", run[:8]]) == 2
    assert f"run '{run[:8]}' is not unique in {here}: {run[:8]}" in capsys.readouterr().err


def test_the_line_of_an_epoch_fits_a_terminal_and_says_more_beside_one():
    tree = {"trainer": {"progress": True, "epochs": 20}}
    metric = "val/si_sdr_improvement_db"
    row = {"epoch": 9, "train/loss": -10.234567, metric: -10.234567, "time_s": 1234.5}
    told = []
    for stream in (Terminal(), io.StringIO()):
        with redirect_stderr(stream):
            show_epoch(tree, metric, "single", row)
            show_epoch(tree, metric, "single", {**row, "epoch": 19})
        told += stream.getvalue().splitlines()
    value = "val/si_sdr_improvement_db -10.23"
    assert told == [
        f"epoch 10/20 · loss -10.23 · {value} · 21 min left",
        f"epoch 20/20 · loss -10.23 · {value} · 1234 s",
        f"epoch 10/20 · train/loss -10.23 · {value} · 1234 s, about 21 min left",
        f"epoch 20/20 · train/loss -10.23 · {value} · 1234 s",
    ]
    assert max(map(len, told[:2])) < 80


def test_beside_a_terminal_a_run_tells_a_line_an_epoch(here, capsys):
    assert main([*RUN, "examples.train=64", "examples.batch_size=128"]) == 0
    told = capsys.readouterr().err
    assert (
        "a batch is 128 examples, an epoch has 64: each epoch is one step, of all of them\n" in told
    )
    assert "━" not in told
    assert [line[:9] for line in told.splitlines() if line[:5] == "epoch"] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
