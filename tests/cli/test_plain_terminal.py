"""No name, setting or record makes a terminal or a pipe obey it."""

import importlib.util
import io
import os
import pty
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lightning_sep.cli.output import print_table
from lightning_sep.data.progress import ProgressLine
from lightning_sep.sweep.definition import load_sweep
from lightning_sep.sweep.display import display, tell
from lightning_sep.sweep.folder import create
from lightning_sep.terminal import plain, plain_streams

ROOT = Path(__file__).parents[2]
NASTY = "a\x1b]0;owned\x07\x9b2J\u202egpj\u2066b\u061cc\u200fd\re\x7f"
SHOWN = r"a\x1b]0;owned\x07\x9b2J\u202egpj\u2066b\u061cc\u200fd" + "\\re" + r"\x7f"
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of rich itself, on a terminal
SWEEP = """
from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    question={question!r}, metric="val/value", direction="minimize", trials=3, settings=["steps=4"]
)


def overrides(trial):
    yield f"rate={{trial.suggest_categorical('rate', [0.05, 0.1])}}"
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a sweep and records, in which somebody has written by hand."""
    spec = importlib.util.spec_from_file_location(
        "records", ROOT / "tests" / "leaderboard" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    records = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(records)
    made = records.Home(tmp_path / "runs")
    values = np.linspace(1, 2, 120)
    named = {"sweep": "odd", "overrides": [f"head={NASTY}"], "set": {"head.mode": NASTY}}
    for seed in range(2):
        made.separation(f"{seed:012x}", values + seed, seed=seed, **named)
    made.write("f" * 12, state="failed", error=NASTY, metrics={}, seed=3, **named)
    (tmp_path / "odd.py").write_text(SWEEP.format(question=NASTY))
    create(made.path, load_sweep(tmp_path / "odd.py"))
    return made.path


def run(home: Path, *arguments: str | bytes) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of a command in a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "lightning_sep", *arguments],
        capture_output=True,
        check=False,
        cwd=home.parent,
        env=os.environ | {"LIGHTNING_SEP_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stdout, done.stderr


def on_terminal(home: Path, *arguments: str) -> str:
    """What a command writes to a terminal, without the colours that it gives."""
    ours, theirs = pty.openpty()
    environment = {"LIGHTNING_SEP_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
    with subprocess.Popen(
        [sys.executable, "-m", "lightning_sep", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home.parent,
        env=os.environ | environment | {"TERM": "xterm"},
    ):
        os.close(theirs)
        found = b""
        try:
            while got := os.read(ours, 65536):
                found += got
        except OSError:  # the other end is closed: Linux says so by an error
            pass
    os.close(ours)
    return COLOURS.sub("", found.decode().replace("\r\n", "\n"))


@given(st.text(st.characters(), max_size=30))
def test_what_is_plain_is_written_and_stays(text):
    assert not OBEYED.search(plain(text))
    assert plain(plain(text)) == plain(text)
    plain(text).encode()
    if not OBEYED.search(text):
        assert plain(text) == text


def test_what_was_there_can_be_read():
    assert plain(NASTY) == SHOWN
    assert plain("\ud800\udcff") == r"\ud800\udcff"
    assert plain("tab\tand\nline, ümlaut, 例") == "tab\tand\nline, ümlaut, 例"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", f"head={NASTY}"], 2),
        (["train", f"data.path='{NASTY}'", "data=folder"], 2),
        (["train", f"{NASTY}=1"], 2),
        (["train", b"head=\xff\xfe"], 2),
        ([NASTY], 2),
        (["status", NASTY], 2),
        (["stop", NASTY], 2),
        (["leaderboard", NASTY], 2),
        (["sweep", f"{NASTY}.py"], 2),
        (["sweep", "--grid", "--name", NASTY, "head=tanh,sine"], 2),
        (["data", "prepare", "folder", "--source", NASTY], 2),
        (["separate", NASTY, "a.wav", "--out", "o"], 2),
        (["--debug", "status", NASTY], 2),
        (["--config-dir", NASTY, "train", "--help"], 0),
        (["status"], 0),
        (["status", "odd"], 0),
        (["status", "--json"], 0),
        (["leaderboard"], 0),
        (["leaderboard", "--json"], 0),
    ],
)
def test_a_command_writes_nothing_that_is_obeyed(home, arguments, code):
    done, out, errors = run(home, *arguments)
    assert done == code, errors
    assert not OBEYED.search(out.decode() + errors.decode())
    assert code == 0 or b"owned" in errors or b"head=" in errors or b"head '" in errors


@pytest.mark.parametrize("arguments", [["status"], ["leaderboard"], ["train", f"head={NASTY}"]])
def test_a_terminal_gets_nothing_that_it_would_obey(home, arguments):
    told = on_terminal(home, *arguments)
    assert r"\x1b]0;owned\x07" in told
    assert not OBEYED.search(told)


def test_a_table_on_a_terminal_keeps_its_own_codes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with redirect_stdout(stream), plain_streams():
        print_table([{"name": NASTY}])
    told = stream.getvalue()
    assert "\x1b[1mname" in told
    assert not OBEYED.search(COLOURS.sub("", told))


def test_bars_keep_their_own_codes_and_what_is_said_beside_them_is_plain(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    state = SimpleNamespace(name="one", trials={}, work_done=1, work_total=2, done=False)
    state.line = lambda: f"one: {NASTY}"
    study = SimpleNamespace(definition=SimpleNamespace(name="one"))
    with redirect_stderr(stream), plain_streams(), display([study]) as show:  # type: ignore[list-item]
        tell(NASTY)
        show([state])  # type: ignore[list-item]
    told = stream.getvalue()
    assert "\x1b[2K" in told  # a bar is drawn over the one before
    assert "\\x9b2J" in told
    assert "\x9b" not in told
    assert "\u202e" not in told
    assert "\x1b]0" not in told


def test_a_line_that_is_written_over_keeps_its_codes_alone():
    stream = Terminal()
    with redirect_stderr(stream), plain_streams():
        ProgressLine()(1, 2, NASTY)
    assert stream.getvalue() == f"\r\x1b[K1/2 {SHOWN}"


def test_streams_are_given_back_after_an_error():
    held = sys.stdout, sys.stderr
    with pytest.raises(KeyError), plain_streams():
        raise KeyError
    assert (sys.stdout, sys.stderr) == held


def test_a_stream_counts_and_joins_like_its_own():
    stream = io.StringIO()
    with redirect_stdout(stream), plain_streams():
        assert sys.stdout.write("a\x1bb") == 3
        sys.stdout.writelines(["\x07", "c"])
        assert not sys.stdout.isatty()
        assert Console().file is stream
    assert stream.getvalue() == r"a\x1bb\x07c"
