"""A board in a file: the same bytes for the same board, proved anywhere, refused where changed."""

import hashlib
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lightning_sep import experiment
from lightning_sep.cli.entry import main
from lightning_sep.errors import ArchiveError
from lightning_sep.fsio import append_line
from lightning_sep.leaderboard import archive
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.runs import VERIFICATIONS, read_run
from lightning_sep.leaderboard.table import plain
from lightning_sep.record import read_record, write_record
from lightning_sep.settings import compose

SMALL = [
    *("task=separation", "tracking=none", "net.levels=2", "net.filters=4", "trainer.epochs=1"),
    *("examples.segment_s=0.25", "examples.train=8", "examples.val=4", "examples.test=4"),
    *("examples.batch_size=4", "trainer.progress=false"),
]
KEY = "test/si_sdr_improvement_db"


@pytest.fixture(scope="module")
def made(data_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a sweep of two settings with two fresh seeds each."""
    home = tmp_path_factory.mktemp("made") / "runs"
    for trial, head in enumerate(["tanh", "sine"]):
        for seed in (1000, 1001):
            settings = compose([*SMALL, f"head={head}", f"seed={seed}"])
            experiment.run(settings, home=home, sweep="two", trial=trial, purpose="final")
    asks = {"asks": {"question": "Which?", "final_seeds": 2}}
    (home / "sweeps" / "two").mkdir(parents=True)
    (home / "sweeps" / "two" / "sweep.json").write_text(json.dumps(asks))
    return home


@pytest.fixture(scope="module")
def packed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive, with weights."""
    out = tmp_path_factory.mktemp("packed") / "two.zip"
    archive.export(made, "two", out, checkpoints=True)
    return out


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {one.filename: opened.read(one) for one in opened.infolist()}


def rewritten(path: Path, content: dict[str, bytes], *, listed: bool = False) -> Path:
    """An archive of these members; ``listed`` mends its list of them."""
    if listed:
        manifest = json.loads(content["manifest.json"])
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(one).hexdigest(), "bytes": len(one)}
            for name, one in content.items()
            if name != "manifest.json"
        }
        content = content | {"manifest.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, one in content.items():
            kind = zipfile.ZIP_STORED if name.endswith(".ckpt") else zipfile.ZIP_DEFLATED
            opened.writestr(zipfile.ZipInfo(name), one, kind)
    return path


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["verify", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_same_board_gives_the_same_bytes_in_any_home(
    made: Path, packed: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(made, tmp_path / "elsewhere"))
    archive.export(other, "two", tmp_path / "again.zip", checkpoints=True)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    found = set(members(packed))
    runs = {one.parent.name for one in made.glob("*/record.json")}
    for run in runs:
        weights = next((made / run / "checkpoints").glob("best.*.ckpt")).name
        assert {f"runs/{run}/record.json", f"runs/{run}/checkpoints/{weights}"} <= found
    assert {"board.json", "protocol.json", "sweeps/two/sweep.json"} <= found
    archive.export(made, "two", tmp_path / "light.zip")
    assert not [one for one in members(tmp_path / "light.zip") if "checkpoints" in one]


def test_another_process_computes_the_same_board(packed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightning_sep", "verify", str(packed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["board"], found["runs"], found["checkpoints"]) == ("two", 4, 4)
    (board,) = json.loads(members(packed)["board.json"])["boards"]
    best = {key: board["best"][key] for key in ("name", "run_id")}
    assert found["best"] == [{"board": "two"} | best]


def test_the_protocol_of_an_archive_is_the_one_that_it_was_ranked_by(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "board").mkdir(parents=True)
    (tmp_path / "conf" / "board" / "two.yaml").write_text("seeds: 3\n")
    monkeypatch.chdir(tmp_path)
    archive.export(made, "two", tmp_path / "two.zip")
    monkeypatch.chdir(made)
    (board,) = archive.verify(tmp_path / "two.zip").boards
    assert board.rows == []
    assert {one.reasons[0] for one in board.apart} == {"2 of 3 fresh seeds finished"}


def test_the_first_row_of_an_archive_is_trained_and_tested_anew_bit_for_bit(
    packed: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process, with a home and data of its own; then this one."""

    def elsewhere(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "lightning_sep", *words],
            env=os.environ | {"LIGHTNING_SEP_DATA": str(tmp_path / "data")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    (command,) = [one for one in elsewhere("verify", str(packed)).splitlines() if "repro" in one]
    words = shlex.split(command)[1:]
    assert not home.exists()
    found = json.loads(elsewhere(*words, "--json"))
    assert (found["grade"], found["differs"], found["eval_only"]) == ("bitwise", {}, False)
    (board,) = json.loads(members(packed)["board.json"])["boards"]
    first = board["rows"][0]["seeds"][0]
    assert (found["run_id"], found["again"]) == (first["run_id"], first["value"])
    assert main([*words, "--eval-only", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["grade"], found["eval_only"]) == ("bitwise", True)
    # The unpacked home counts them; the archive says what it said.
    (place,) = (home / "archives").iterdir()
    (board,) = load_boards(place, ["two"]).boards
    assert board.best is not None
    assert board.best.verified == 2
    assert "verified 2 times" in plain(load_boards(place, ["two"]))
    assert archive.verify(packed).boards[0].best.verified == 0  # type: ignore[union-attr]
    # Without weights it can still be trained anew, and says why it cannot be tested again.
    light = rewritten(
        tmp_path / "light.zip",
        {name: one for name, one in members(packed).items() if "checkpoints" not in name},
        listed=True,
    )
    run = words[-1].rpartition(":")[2]
    assert main(["reproduce", f"{light}:{run}", "--eval-only"]) == 2
    assert "is not there" in capsys.readouterr().err
    assert main(["reproduce", f"{light}:{run}"]) == 0


def test_what_a_run_begins_with_comes_along_or_is_asked_for_by_name(
    made: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = Path(shutil.copytree(made, tmp_path / "origin"))
    parent = min(one.parent.name for one in origin.glob("*/record.json"))
    head = (read_record(origin / parent) or {})["settings"]["head"]["_target_"].split(".")[-2]
    second = compose([*SMALL, f"head={head}", "seed=7", f"init_from={parent}"])
    begun = experiment.run(second, home=origin)
    third = compose([*SMALL, f"head={head}", "seed=8", f"init_from={begun.run_id}"])
    child = experiment.run(third, home=origin, sweep="begun", purpose="final").run_id
    out = tmp_path / "begun.zip"
    made_of = archive.export(origin, "begun", out)
    assert (made_of.runs, made_of.checkpoints, made_of.left_out) == (3, 2, [])
    assert [[row.run_id for row in one.rows] for one in made_of.boards] == [[child]]
    assert main(["reproduce", f"{out}:{child}", "--json"]) == 0  # an empty home: from the archive
    assert json.loads(capsys.readouterr().out)["grade"] == "bitwise"
    # An archive without it: refused in a line, and trained where the user's home has the parent.
    held = {name: one for name, one in members(out).items() if begun.run_id not in name}
    alone = rewritten(tmp_path / "alone.zip", held, listed=True)
    shutil.rmtree(home)
    assert main(["reproduce", f"{alone}:{child}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"bring the folder of run {begun.run_id}" in error
    shutil.copytree(begun.folder, home / begun.run_id)
    assert main(["reproduce", f"{alone}:{child}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["grade"] == "bitwise"
    # One that is not there, or not as it was, is named.
    weights = next((origin / parent / "checkpoints").glob("best.*.ckpt"))
    weights.write_bytes(weights.read_bytes() + b" ")
    (left,) = archive.export(origin, "begun", tmp_path / "b.zip").left_out
    assert left["folder"] == parent
    assert f"run {begun.run_id} begins with its weights" in left["reason"]
    assert f"{weights.name} was changed" in left["reason"]
    shutil.rmtree(begun.folder)
    (left,) = archive.export(origin, "begun", tmp_path / "b.zip").left_out
    assert left["folder"] == begun.run_id
    assert f"is not in {origin}" in left["reason"]


def kinds(path: Path) -> dict[str, str]:
    """A member of each kind, by its kind."""
    names = members(path)
    ends = ["ckpt", "sha256", "record.json", "settings.yaml", "metrics.jsonl", "sweep.json"]
    found = {end: next(name for name in names if name.endswith(end)) for end in ends}
    found["examples"] = next(name for name in names if "test_examples" in name)
    return found | {one: one for one in ("manifest.json", "board.json", "protocol.json")}


@pytest.mark.parametrize(
    "kind",
    [
        *("ckpt", "sha256", "record.json", "settings.yaml", "metrics.jsonl", "sweep.json"),
        *("examples", "manifest.json", "board.json", "protocol.json"),
    ],
)
def test_one_byte_changed_in_any_member_is_refused_by_name(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    name = kinds(packed)[kind]
    # As a disk does it: within the packed bytes.
    with zipfile.ZipFile(packed) as opened:
        info = opened.getinfo(name)
    content = bytearray(packed.read_bytes())
    content[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    assert name in refused(tmp_path / "flipped.zip", capsys)
    # As a hand does it: packed anew.
    held = members(packed)
    changed = bytearray(held[name])
    changed[len(changed) // 2] ^= 1
    broken = rewritten(tmp_path / "edited.zip", held | {name: bytes(changed)})
    if kind != "manifest.json":  # which lists another file's hash now: that one is named
        assert name in refused(broken, capsys)
    else:
        refused(broken, capsys)


def test_mending_the_list_of_hashes_does_not_help(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held, named = members(packed), kinds(packed)
    for kind in ("ckpt", "record.json", "examples"):
        name = named[kind]
        changed = held[name][:-3] + b" " + held[name][-3:]
        if kind == "record.json":
            changed = held[name].replace(b'"seed": 100', b'"seed": 200', 1)
        broken = rewritten(tmp_path / "a.zip", held | {name: changed}, listed=True)
        assert name in refused(broken, capsys)
    score = json.loads(held["board.json"])
    score["boards"][0]["rows"][0]["mean"] += 1
    board = {"board.json": json.dumps(score).encode()}
    assert "board.json is not what its records" in refused(
        rewritten(tmp_path / "b.zip", held | board, listed=True), capsys
    )


def test_a_record_sealed_anew_is_no_longer_what_the_board_says(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = members(packed)
    name = kinds(packed)["record.json"]
    folder = tmp_path / name.split("/")[1]
    record = json.loads(held[name])
    record["metrics"][KEY] += 0.5
    write_record(folder, record)
    changed = held | {name: (folder / "record.json").read_bytes()}
    assert "board.json is not what its records" in refused(
        rewritten(tmp_path / "a.zip", changed, listed=True), capsys
    )


def hostile(packed: Path, target: Path, name: str, content: bytes = b"{}", **fields: Any) -> Path:
    shutil.copy(packed, target)
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(info, content)
    return target


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("../../evil.json", {}, "'../../evil.json' does not belong"),
        ("/etc/evil", {}, "'/etc/evil' does not belong"),
        ("runs/../record.json", {}, "'runs/../record.json' does not belong"),
        ("runs/a/checkpoints/x.py", {}, "'runs/a/checkpoints/x.py' does not belong"),
        (
            "runs/a/record.json",
            {"external_attr": (stat.S_IFLNK | 0o777) << 16},
            "'runs/a/record.json' is no plain file",
        ),
        ("board.json", {}, "board.json is there twice"),
        ("runs/a/record.json", {}, "runs/a/record.json is not in its manifest.json"),
        (
            "runs/b/record.json",
            {"compress_type": zipfile.ZIP_BZIP2},
            "runs/b/record.json is packed",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_no_archive_of_ours_holds_is_refused_by_name(
    packed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    fields: dict[str, Any],
    words: str,
) -> None:
    path = hostile(packed, tmp_path / "a.zip", name, **fields)
    if "compress_type" in fields:
        content = members(packed)
        with zipfile.ZipFile(path, "w") as opened:
            for one, held in content.items():
                opened.writestr(one, held)
            opened.writestr(name, b"{}", fields["compress_type"])
    assert words in refused(path, capsys)
    assert not list(tmp_path.parent.glob("evil*"))


def test_what_would_fill_the_disk_is_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = hostile(
        packed, tmp_path / "a.zip", "runs/a/record.json", b" " * 60_000_000, compress_type=8
    )
    assert "runs/a/record.json says that it has 60000000 bytes" in refused(bomb, capsys)
    content = bytearray(packed.read_bytes())
    at = content.rfind(b"PK\x01\x02")  # the last entry of the directory: its size
    content[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    assert "says that it has 2147483648 bytes" in refused(tmp_path / "b.zip", capsys)
    (tmp_path / "c.zip").write_bytes(packed.read_bytes()[:900])
    assert "cannot be read as an archive" in refused(tmp_path / "c.zip", capsys)
    held = members(packed)
    deep = rewritten(tmp_path / "d.zip", held | {"manifest.json": b"[" * 100_000})
    assert "manifest.json cannot be read" in refused(deep, capsys)
    del held["protocol.json"]
    assert "protocol.json is missing" in refused(rewritten(tmp_path / "e.zip", held), capsys)
    assert "no archive" in refused(tmp_path / "none.zip", capsys)


def test_what_cannot_be_used_is_left_out_by_name(
    made: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, home)
    spoilt = sorted(home.glob("*/record.json"))[0]
    spoilt.write_text(spoilt.read_text().replace('"seed": 100', '"seed": 200', 1))
    assert main(["export", "two", "--out", str(tmp_path / "two.zip")]) == 0
    said = capsys.readouterr().err
    assert f"left out: {spoilt.parent.name}" in said
    assert "3 runs, 0 of them with weights" in said
    assert archive.verify(tmp_path / "two.zip").runs == 3
    sound = next(one for one in sorted(home.glob("*/checkpoints")) if one.parent != spoilt.parent)
    weights = next(sound.glob("best.*.ckpt"))
    weights.write_bytes(weights.read_bytes() + b" ")
    assert main(["export", "two", "--out", str(tmp_path / "two.zip"), "--checkpoints"]) == 2
    assert weights.name in capsys.readouterr().err


def test_a_failed_run_and_a_package_without_its_lock_are_packed_all_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "runs"
    shutil.copytree(made, home)
    (spoilt, *_) = (
        one for one in sorted(home.glob("*/record.json")) if '"seed": 1001' in one.read_text()
    )
    record = json.loads(spoilt.read_text())
    spoilt.unlink()
    del record["format"]
    failed = {"state": "failed", "error": "diverged", "metrics": {}, "examples_file": None}
    write_record(spoilt.parent, record | failed | {"hashes": {"examples": None}})
    monkeypatch.setattr(archive, "LOCK", "of no package.txt")  # a wheel brings none
    packed = archive.export(home, "two", tmp_path / "two.zip")
    assert not packed.left_out
    names = members(tmp_path / "two.zip")
    assert f"runs/{spoilt.parent.name}/record.json" in names
    assert sum("test_examples" in name for name in names) == 3
    assert archive.verify(tmp_path / "two.zip").as_json() == packed.as_json()


def test_one_byte_changed_in_the_data_is_refused_by_name(
    made: Path,
    home: Path,
    data_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(made, home)
    record = next(read_record(one.parent) for one in home.glob("*/record.json"))
    assert record is not None
    copy = Path(shutil.copytree(data_home, tmp_path / "data"))
    monkeypatch.setenv("LIGHTNING_SEP_DATA", str(copy))
    (name,) = record["data"]
    sound = next((next(copy.glob(f"{name}*")) / "audio").rglob("*.*"))
    content = bytearray(sound.read_bytes())
    content[len(content) // 2] ^= 1
    sound.write_bytes(content)
    for extra in ([], ["--eval-only"]):
        assert main(["reproduce", record["run_id"], *extra]) == 2
        assert sound.name in capsys.readouterr().err


def test_every_command_that_is_printed_gives_the_rows_number_in_an_empty_home(
    made: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (board,) = load_boards(made, ["two"]).boards
    for score in (row.scores[0] for row in board.rows):
        words = shlex.split(score.command)
        assert words[:2] == ["lightning-sep", "train"]
        assert main(words[1:]) == 0
        found = read_record(home / score.run.run_id)
        assert found is not None
        assert found["metrics"][KEY] == score.value
    capsys.readouterr()


def test_it_says_the_commit(home: Path) -> None:
    from tests.leaderboard.conftest import Home

    runs = Home(home)
    for seed, revision in ((0, "ab" * 20), (1, "cd" * 20)):
        for head in ("sine", "tanh"):
            told = {"code_revision": revision if head == "tanh" else "ab" * 20}
            more = {"head": head, "seed": seed, "environment": {"device": "cpu", **told}}
            runs.write(f"{head}{seed}", metrics={KEY: 1.0 + seed}, **more)
    (board,) = load_boards(home).boards
    assert [row.commit for row in sorted(board.rows, key=lambda row: row.name)] == ["ab" * 20, None]
    assert "Code: commit abababababab." in plain(load_boards(home))


def test_only_verifications_of_this_very_record_count(made: Path, home: Path) -> None:
    shutil.copytree(made, home)
    folder = next(iter(sorted(home.glob("*/record.json")))).parent
    own = (read_record(folder) or {})["hashes"]["record"]
    lines = [
        {"grade": "bitwise", "record": own},
        {"grade": "statistical", "record": own},
        {"grade": "different", "record": own},
        {"grade": "bitwise", "record": "of another"},
        {"grade": "lovely", "record": own},
        {"grade": "bitwise"},
    ]
    (folder / VERIFICATIONS).write_text("\n".join(map(json.dumps, lines)) + '\n{"torn')
    (board,) = load_boards(home, ["two"]).boards
    (row,) = [one for one in board.rows if any(run.folder == folder for run in one.runs)]
    assert (row.verified, row.differed) == (2, 1)
    assert row.verified_text == "verified 2 times, differed once"
    assert sum(one.verified for one in board.rows) == 2
    # An archive brings them along, and unpacking it again takes none away that came since.
    out, other = home.parent / "two.zip", home.parent / "other"
    archive.export(home, "two", out)
    for expected in (2, 3):
        unpacked, _ = archive.find(f"{out}:{folder.name}", other)
        grades = read_run(unpacked).grades
        assert sum(one != "different" for one in grades) == expected
        line = json.dumps({"grade": "bitwise", "record": own})
        append_line(unpacked / VERIFICATIONS, line)


def test_an_archive_of_another_version_says_so(packed: Path, tmp_path: Path) -> None:
    held = members(packed)
    manifest = json.loads(held["manifest.json"]) | {"format": 9}
    changed = held | {"manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(ArchiveError, match="has format 9, this version reads 1"):
        archive.verify(rewritten(tmp_path / "a.zip", changed))
