"""A board in one file that proves it: records, values per example, lock, protocol and hashes.

A zip archive with the same bytes for the same content. Whoever has it can compute the board again
and train any of its rows anew. Hashes show that nothing was changed by accident or by hand; who
made a number, they cannot say: that is what training it anew is for.
"""

import json
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from lightning_sep.errors import ArchiveError, ConfigError, one_line
from lightning_sep.find import KEY, find_parent, find_run
from lightning_sep.fingerprint import software
from lightning_sep.fsio import (
    json_text,
    make_folder,
    sha256_file,
    storage_errors,
    write_aside,
    write_aside_with,
)
from lightning_sep.leaderboard.board import SINGLE, Board, load_boards
from lightning_sep.leaderboard.document import as_json
from lightning_sep.leaderboard.protocol import Protocol, protocol_of
from lightning_sep.leaderboard.runs import VERIFICATIONS, Run, read_run, read_runs, reused_runs
from lightning_sep.record import RECORD, misfits, read_record
from lightning_sep.sources import PACKAGE

FORMAT = 1
MANIFEST, BOARD, PROTOCOL, LOCK = "manifest.json", "board.json", "protocol.json", "constraints.txt"
ARCHIVES = "archives"  # in a home: what `ARCHIVE:ID` was unpacked to, each a home of its own
_LARGEST = 1 << 30  # bytes of a member that is packed; weights are not, and may be larger
_PACKED = 200  # times smaller than it is: more is no list of numbers, it fills the disk
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_MEMBER = re.compile(
    rf"manifest\.json|board\.json|protocol\.json|constraints\.txt"
    rf"|sweeps/{_NAME}/(sweep|trials|finals/{_NAME})\.json"
    rf"|runs/{_NAME}/(record\.json|settings\.yaml|metrics\.jsonl|verifications\.jsonl"
    rf"|test_examples(\.\d+)?\.json|checkpoints/best(\.\d+)?\.(ckpt|sha256))"
)
_UNREADABLE = (
    *(BadZipFile, ValueError, NotImplementedError, RuntimeError, OverflowError),
    *(EOFError, struct.error, zlib.error),
)


@dataclass(frozen=True)
class Archive:
    """What an archive holds.

    Args:
        board: its name.
        runs: how many records.
        checkpoints: how many of the runs have their weights in it; a run that another one begins
            with always has.
        files: how many members, the list of them not counted.
        made_by: version, code hash and commit of the package that wrote it.
        left_out: folders of the home whose records could not be used, and why.
        boards: what was ranked.
    """

    board: str
    runs: int
    checkpoints: int
    files: int
    made_by: dict[str, Any]
    left_out: list[dict[str, str]]
    boards: list[Board]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types, with the best row of each board."""
        return {
            "format": FORMAT,
            **{one.name: getattr(self, one.name) for one in fields(self) if one.name != "boards"},
            "best": [
                {"board": one.name, "name": one.best.name, "run_id": one.best.run_id}
                for one in self.boards
                if one.best is not None
            ],
        }


def export(home: Path, name: str, out: Path, *, checkpoints: bool = False) -> Archive:
    """Write a board and all that it was computed from to one file.

    Args:
        home: folder of all runs.
        name: a sweep, or ``single``.
        out: the archive.
        checkpoints: also the best weights of every run.

    Raises:
        ConfigError: there is no such board.
        StorageError: the disk refused.
    """
    runs, left_out = runs_of(home, name)
    parents, missing = _parents(runs, home)
    left_out += missing
    files = dict(_of_sweep(home, name))
    for run in runs:
        files |= _of_run(run, checkpoints)
    for run in parents:
        files |= _of_run(run, True)
    lock = PACKAGE.parent / LOCK
    if lock.is_file():
        files[LOCK] = lock
    with TemporaryDirectory() as held:
        stage = Path(held)
        for member, source in files.items():
            if not member.startswith("runs/") or "/checkpoints/" not in member:
                _copy(source, place := stage / member)
                files[member] = place
        write_aside(stage / PROTOCOL, json_text(asdict(protocol_of(name))))
        text, boards = _computed(stage, name)
        write_aside(stage / BOARD, text)
        files |= {one: stage / one for one in (PROTOCOL, BOARD)}
        manifest = {
            "format": FORMAT,
            "board": name,
            "made_by": _here(),
            "left_out": left_out,
            "files": {
                member: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
                for member, path in sorted(files.items())
            },
        }
        write_aside(stage / MANIFEST, json_text(manifest))
        members = {MANIFEST: stage / MANIFEST, **dict(sorted(files.items()))}
        write_aside_with(out, lambda file: _pack(file, members))
    return _described(manifest, boards)


def verify(path: Path) -> Archive:
    """Check every hash of an archive, and compute its board again from the values per example.

    Nothing of it is run, and nothing of it is kept.

    Raises:
        ArchiveError: something in it is not as it was written; the message names it.
    """
    with TemporaryDirectory() as held:
        return unpack(path, Path(held))


def unpack(path: Path, home: Path) -> Archive:
    """Verify an archive and lay it out as a home of runs.

    Raises:
        ArchiveError: something in it is not as it was written; the message names it.
        StorageError: the disk refused.
    """
    with TemporaryDirectory() as held:
        stage = Path(held)
        manifest = _unpack(path, stage)
        for folder in sorted(stage.glob("runs/*")):
            record = _json(folder / RECORD, f"{path}: runs/{folder.name}/{RECORD}")
            weights = (folder / "checkpoints").is_dir()
            wrong = misfits(folder, record, checkpoint=weights)
            if wrong:
                raise ArchiveError(f"{path}: {wrong[0].replace(f'{stage}/', '')}")
        text, boards = _computed(stage, manifest["board"])
        if text != (stage / BOARD).read_text(encoding="utf-8"):
            raise ArchiveError(
                f"{path}: {BOARD} is not what its records and examples give. It was made by "
                f"{_words(manifest['made_by'])}, this is {_words(_here())}"
            )
        for member in manifest["files"]:
            target = home / member.removeprefix("runs/")
            if not (member.endswith(VERIFICATIONS) and target.exists()):  # it may have more by now
                _copy(stage / member, target)
    return _described(manifest, boards)


def find(run: str, home: Path) -> tuple[Path, Path]:
    """The folder of a run, and the home that it belongs to.

    ``ARCHIVE:ID`` is a run of an archive that `lightning-sep export` has written: it is verified
    and unpacked below ``home``, as a home of its own.

    Raises:
        ConfigError: there is no such run.
        ArchiveError: the archive was changed.
    """
    name, _, run_id = run.rpartition(":")
    if not name or not Path(name).is_file():
        return find_run(run, home), home
    place = home / ARCHIVES / sha256_file(Path(name))[:12]
    unpack(Path(name), place)
    return find_run(run_id, place), place


def runs_of(home: Path, name: str) -> tuple[list[Run], list[dict[str, str]]]:
    """The runs of a board, and the folders of the home that cannot be used, with the reasons.

    Raises:
        ConfigError: there is no such board.
    """
    runs, skipped = read_runs(home)
    everyone = [*runs, *reused_runs(home, runs)[0]]
    chosen = {
        run.folder.name: run
        for run in everyone
        if run.sweep == name or (name == SINGLE and run.sweep is None and run.purpose == SINGLE)
    }
    if not chosen:
        load_boards(home, [name])  # which says what there is
        raise ConfigError(f"board '{name}' has no runs")
    left_out = [{"folder": skip.folder, "reason": skip.reason} for skip in skipped]
    for folder in [one for one in chosen if not re.fullmatch(_NAME, one)]:
        left_out.append({"folder": folder, "reason": "its name cannot stand in an archive"})
        del chosen[folder]
    return [run for _, run in sorted(chosen.items())], left_out


def _parents(runs: Sequence[Run], home: Path) -> tuple[list[Run], list[dict[str, str]]]:
    """The runs that others begin with (``init_from``), theirs too: what training them anew takes.

    Those that cannot come along are named, with the reasons.
    """
    found: dict[str, Run] = {}
    missing: dict[str, dict[str, str]] = {}
    left = list(runs)
    while left:
        run = left.pop()
        text = run.settings.get(KEY)
        if not isinstance(text, str) or text in missing:
            continue
        folder = find_parent(text, home)
        if folder is not None and folder.name in found:
            continue
        wrong = [f"{text} is not in {home}"]
        if folder is not None:
            wrong = misfits(folder, read_record(folder) or {}, checkpoint=True)
        if folder is None or wrong:
            why = f"run {run.run_id} begins with its weights, and cannot be trained anew without: "
            missing[text] = {"folder": text.partition("@")[0], "reason": why + wrong[0]}
            continue
        found[folder.name] = read_run(folder)
        left.append(found[folder.name])
    return [run for _, run in sorted(found.items())], list(missing.values())


def _of_sweep(home: Path, name: str) -> Iterator[tuple[str, Path]]:
    """What a board takes from a sweep's folder, by member."""
    folder = home / "sweeps" / name
    for path in (folder / "sweep.json", folder / "trials.json", *folder.glob("finals/*.json")):
        member = f"sweeps/{name}/{path.relative_to(folder).as_posix()}"
        if path.is_file() and _MEMBER.fullmatch(member):
            yield member, path


def _of_run(run: Run, checkpoints: bool) -> dict[str, Path]:
    """What an archive takes from a run's folder, by member."""
    names = [RECORD, "settings.yaml", "metrics.jsonl", VERIFICATIONS]
    if run.examples_file is not None:
        names.append(run.examples_file)
    if checkpoints:
        record = json.loads((run.folder / RECORD).read_text(encoding="utf-8"))
        wrong = misfits(run.folder, record, checkpoint=True)
        if wrong:
            raise ConfigError(f"{wrong[0]}; without --checkpoints its weights are left out")
        kept = [one for one in record.get("checkpoints") or () if one.startswith("best.")]
        names += [f"checkpoints/{one}" for one in kept]
        names += [f"checkpoints/{Path(one).with_suffix('.sha256').name}" for one in kept]
    found = {f"runs/{run.folder.name}/{name}": run.folder / name for name in names}
    return {
        member: path
        for member, path in found.items()
        if path.is_file() and _MEMBER.fullmatch(member)
    }


def _computed(stage: Path, name: str) -> tuple[str, list[Board]]:
    """The board's JSON, from what lies in ``stage`` and nothing else."""
    with TemporaryDirectory(dir=stage) as held:
        home = Path(held)
        for source in sorted(stage.glob("runs/*")):
            (home / source.name).symlink_to(source)
        if (stage / "sweeps").is_dir():
            (home / "sweeps").symlink_to(stage / "sweeps")
        found = load_boards(home, [name], protocol=_protocol(stage / PROTOCOL))
    return json_text(as_json(found)), found.boards


def _protocol(path: Path) -> Protocol:
    content = _json(path, path.name)
    known = {one.name for one in fields(Protocol)}
    if set(content) != known:
        raise ArchiveError(f"{path.name} is no protocol of this version")
    lists = {name: tuple(content[name]) for name in ("equal", "versions")}
    return Protocol(**content | lists)


def _pack(file: IO[bytes], members: Mapping[str, Path]) -> None:
    with ZipFile(file, "w") as archive:
        for member, path in members.items():
            info = ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            weights = member.endswith(".ckpt")
            info.compress_type = ZIP_STORED if weights else ZIP_DEFLATED
            info.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target)


def _unpack(path: Path, stage: Path) -> dict[str, Any]:
    """Lay out the members of an archive, each checked by its hash; the list of them."""
    try:
        with ZipFile(path) as archive:
            infos = _members(path, archive.infolist())
            manifest = _manifest(path, archive, infos, stage)
            for member, known in manifest["files"].items():
                _extract(path, archive, infos[member], stage / member)
                size = (stage / member).stat().st_size
                if size != known["bytes"] or sha256_file(stage / member) != known["sha256"]:
                    raise ArchiveError(f"{path}: {member} was changed after it was written")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArchiveError(f"no archive {path}: `lightning-sep export` writes one") from error
    except _UNREADABLE as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path} cannot be read as an archive: {one_line(error)}") from error
    return manifest


def _members(path: Path, infos: Sequence[ZipInfo]) -> dict[str, ZipInfo]:
    """The members by name; refused where a name, a kind or a size is none of an archive of ours."""
    found: dict[str, ZipInfo] = {}
    for info in infos:
        name = info.filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(f"{path}: {name!r} is no plain file")
        if not _MEMBER.fullmatch(name):
            raise ArchiveError(f"{path}: {name!r} does not belong into a board's archive")
        if name in found:
            raise ArchiveError(f"{path}: {name} is there twice")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & 1:
            raise ArchiveError(f"{path}: {name} is packed in a way that is not ours")
        packed = info.compress_type == ZIP_DEFLATED
        if packed and info.file_size > min(_LARGEST, _PACKED * (info.compress_size + 1024)):
            raise ArchiveError(
                f"{path}: {name} says that it has {info.file_size} bytes in {info.compress_size}"
            )
        found[name] = info
    return found


def _manifest(
    path: Path, archive: ZipFile, infos: Mapping[str, ZipInfo], stage: Path
) -> dict[str, Any]:
    if MANIFEST not in infos:
        raise ArchiveError(f"{path}: {MANIFEST} is missing: this is no board's archive")
    _extract(path, archive, infos[MANIFEST], stage / MANIFEST)
    manifest = _json(stage / MANIFEST, f"{path}: {MANIFEST}")
    version, listed = manifest.get("format"), manifest.get("files")
    if version != FORMAT:
        raise ArchiveError(f"{path}: {MANIFEST} has format {version}, this version reads {FORMAT}")
    board, made_by = manifest.get("board"), manifest.get("made_by")
    sound = (
        isinstance(board, str)
        and re.fullmatch(_NAME, board)
        and isinstance(made_by, dict)
        and isinstance(manifest.get("left_out"), list)
    )
    if not sound or not isinstance(listed, dict) or not all(map(_is_known, listed.values())):
        raise ArchiveError(f"{path}: {MANIFEST} has lost fields")
    for member in [*listed, BOARD, PROTOCOL]:
        if member not in infos or member not in listed:
            raise ArchiveError(f"{path}: {member} is missing")
    for member in infos:
        if member not in listed and member != MANIFEST:
            raise ArchiveError(f"{path}: {member} is not in its {MANIFEST}")
    return manifest


def _is_known(one: object) -> bool:
    """Whether a line of the list of members says what is compared."""
    return (
        isinstance(one, dict)
        and isinstance(one.get("sha256"), str)
        and isinstance(one.get("bytes"), int)
    )


def _extract(path: Path, archive: ZipFile, info: ZipInfo, target: Path) -> None:
    make_folder(target.parent)
    try:
        with archive.open(info) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except _UNREADABLE as error:
        raise ArchiveError(
            f"{path}: {info.filename} was changed after it was written ({one_line(error)})"
        ) from error


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArchiveError(f"{name} is missing") from error
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{name} cannot be read: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ArchiveError(f"{name} is not an object")
    return found


def _copy(source: Path, target: Path) -> None:
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _described(manifest: Mapping[str, Any], boards: list[Board]) -> Archive:
    members = list(manifest["files"])
    return Archive(
        board=manifest["board"],
        runs=sum(one.startswith("runs/") and one.endswith(f"/{RECORD}") for one in members),
        checkpoints=sum(one.endswith(".ckpt") for one in members),
        files=len(members),
        made_by=dict(manifest["made_by"]),
        left_out=list(manifest["left_out"]),
        boards=boards,
    )


def _here() -> dict[str, Any]:
    made = software()
    return {
        "package": made["package"],
        "code": made["code_hash"],
        "commit": made["code_revision"],
    }


def _words(made_by: Mapping[str, Any]) -> str:
    commit = str(made_by.get("commit") or "none")[:12]
    return (
        f"version {made_by.get('package')} (code {str(made_by.get('code'))[:12]}, commit {commit})"
    )
