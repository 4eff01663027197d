"""Preparing is told: on a line that moves, in few lines of a log, and while another does it."""

import io
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import soundfile

from lightning_sep.data.cache import locked
from lightning_sep.data.folder import Folder
from lightning_sep.data.progress import ProgressLine

ROOT = Path(__file__).parents[2]
OPEN = """
import os
from lightning_sep.parts import open_data
from lightning_sep.settings import compose
print(open_data(compose(["data=folder", f"data.path={os.environ['SOUNDS']}"])).name)
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def sounds(tmp_path, tone):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", tone(number, 0.1), 8000)
    return folder


def test_a_terminal_has_one_line_that_is_written_over():
    stream = Terminal()
    line = ProgressLine(stream)
    for done in range(3):
        line(done, 2, "files")
    assert stream.getvalue() == "\r\033[K0/2 files\r\033[K1/2 files\r\033[K2/2 files\n"


def test_a_log_has_a_line_every_half_minute_and_one_at_the_end():
    stream, seconds = io.StringIO(), iter([0.0, 1.0, 3.0, 20.0, 33.0, 34.0])
    line = ProgressLine(stream, lambda: next(seconds))
    for done in range(6):
        line(done, 5, "files")
    assert stream.getvalue().splitlines() == ["2/5 files", "4/5 files", "5/5 files"]


def test_what_is_done_at_once_is_not_spoken_of_in_a_log():
    stream, seconds = io.StringIO(), iter([0.0, 1.0, 1.5])
    line = ProgressLine(stream, lambda: next(seconds))
    for done in range(3):
        line(done, 2, "files")
    assert stream.getvalue() == ""


def test_data_that_are_prepared_when_a_run_opens_them_are_told_on_a_terminal(tmp_path, sounds):
    ours, theirs = pty.openpty()
    about = {"LIGHTNING_SEP_DATA": str(tmp_path / "home"), "SOUNDS": str(sounds)}
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN], cwd=ROOT, env=os.environ | about, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 1024)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    assert process.wait() == 0
    assert b"\r\x1b[K2/4 folder: 2.wav" in said
    assert said.endswith(b"4/4 folder: manifests\r\n")


def test_a_cache_that_is_decoded_again_is_told(tmp_path, sounds):
    for path in (Folder(str(sounds)).open(tmp_path / "home").folder / "cache").iterdir():
        path.unlink()
    told = []
    prepared = Folder(str(sounds)).open(tmp_path / "home", lambda *about: told.append(about))
    assert told == []
    assert prepared.reader.whole(0, 0, 10).shape == (1, 10)
    assert told == [
        (0, 4, "folder: decode 0.wav"),
        (1, 4, "folder: decode 1.wav"),
        (2, 4, "folder: decode 2.wav"),
        (3, 4, "folder: decode 3.wav"),
        (4, 4, "folder is decoded"),
    ]


def test_who_waits_for_another_process_says_so(tmp_path, sounds):
    told = []
    with locked(tmp_path / "home" / ".lock-folder"):
        opening = threading.Thread(
            target=Folder(str(sounds)).open,
            args=(tmp_path / "home", lambda *about: told.append(about)),
        )
        opening.start()
        while not told:
            time.sleep(0.01)
    opening.join()
    assert told[0] == (0, 1, "folder: another process prepares it")
    assert told[-1] == (4, 4, "folder: manifests")
