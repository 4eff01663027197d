"""Files that are whole at every moment."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from lightning_sep.errors import StorageError
from lightning_sep.fsio import (
    append_line,
    link_first,
    read_lines,
    storage_errors,
    sweep_leftovers,
    write_aside,
    write_aside_with,
    write_json,
)
from lightning_sep.record import FORMAT, read_record, read_records, write_record


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    contents = {bytes([65 + number]) * 200_000 for number in range(8)}
    write_aside(path, next(iter(contents)))
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(4):
        for content in contents:
            write_aside(path, content)
    done.set()
    reader.join()
    assert seen <= contents


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    write_aside(path, "old")

    def fails(file):
        file.write(b"half of the new")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_aside_with(path, fails)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("write", [write_aside, link_first])
def test_a_file_is_on_the_disk_before_its_name_is_and_then_its_name(
    tmp_path, monkeypatch, synced, write
):
    named = []
    for call in ("replace", "link"):
        make = getattr(os, call)
        monkeypatch.setattr(
            os, call, lambda *paths, make=make: (named.append(len(synced)), make(*paths))
        )
    path = tmp_path / "file"
    write(path, "all of it")
    (aside, content), folder = synced
    assert aside.name.startswith(".file.aside-")
    assert content == b"all of it"
    assert folder == (tmp_path, None)
    assert named == [1]


def test_a_line_is_on_the_disk_when_it_is_said_to_be(tmp_path, synced):
    path = tmp_path / "lines"
    append_line(path, "one")
    append_line(path, "two")
    assert synced == [(path, b"one\n"), (path, b"one\ntwo\n")]


def test_leftovers_of_killed_writers_are_swept_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("whole")
    (tmp_path / ".hidden").write_text("mine")
    (tmp_path / ".file.aside-123-abcd").write_text("half")
    sweep_leftovers(tmp_path)
    assert sorted(found.name for found in tmp_path.iterdir()) == [".hidden", "file"]


def test_json_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}}


def test_a_line_after_a_torn_one_is_a_line_of_its_own(tmp_path):
    path = tmp_path / "lines"
    append_line(path, '{"a": 1}')
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    append_line(path, '{"a": 3}')
    assert read_lines(path) == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_file_torn_anywhere_gives_its_whole_lines(tmp_path, cut):
    path = tmp_path / "lines"
    for number in range(3):
        append_line(path, json.dumps({"a": number, "b": 2}))
    path.write_bytes(path.read_bytes()[:-cut])
    whole = 3 if cut == 1 else 2  # only the end of the line is gone
    assert read_lines(path) == [{"a": number, "b": 2} for number in range(whole)]


def test_what_is_not_an_object_is_passed_over(tmp_path):
    (tmp_path / "lines").write_bytes(b'\n17\n{"a": 1}\n\xff\xfe\n[1]\n{"a": 2}\n')
    assert read_lines(tmp_path / "lines") == [{"a": 1}, {"a": 2}]


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "lines") == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
        (errno.EFBIG, r"ulimit -f"),
    ],
)
def test_what_the_disk_refuses_is_said_in_one_line(tmp_path, number, said):
    with pytest.raises(StorageError, match=said) as caught, storage_errors(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(caught.value)


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path / "file"):
        (tmp_path / "none").read_text()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_aside(tmp_path / "runs" / "a" / "record.json", "{}")


def test_a_full_disk_leaves_file_and_record_as_they_were(small_disk: Path):
    run = small_disk / "run"
    write_record(run, {"run_id": "abc", "metrics": {"test/r2": 0.5}})
    write_aside(run / "file", "old")
    (small_disk / "ballast").write_bytes(bytes(3_000_000))
    with pytest.raises(StorageError, match="no space left"):
        write_aside(run / "file", bytes(2_000_000))
    with pytest.raises(StorageError, match="no space left"):
        write_record(run, {"run_id": "abc", "metrics": {"a": "x" * 2_000_000}})
    assert (run / "file").read_text() == "old"
    record = read_record(run)
    assert record is not None
    assert record["metrics"] == {"test/r2": 0.5}
    assert sorted(found.name for found in run.iterdir()) == ["file", "record.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 3}', '{"format": "1", "run_id": "a"}']
)
def test_a_record_of_another_format_is_not_read(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    assert read_record(tmp_path) is None


def test_records_are_told_in_the_order_of_their_ids(tmp_path):
    for name in ("b", "a", "c"):
        write_record(tmp_path / name, {"run_id": name})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "record.json").write_text("torn")
    assert [record["run_id"] for record in read_records(tmp_path)] == ["a", "b", "c"]
    assert next(iter(read_records(tmp_path)[0].items())) == ("format", FORMAT)
