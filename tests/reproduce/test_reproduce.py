"""A run trained anew: equal to the bit here, refused where something was changed, graded else."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_sep import experiment, reproduce
from lightning_sep.cli.entry import main
from lightning_sep.errors import Interrupted
from lightning_sep.leaderboard.metric import metric_of
from lightning_sep.leaderboard.runs import VERIFICATIONS as FILE
from lightning_sep.leaderboard.runs import read_run
from lightning_sep.record import read_record, write_record
from lightning_sep.reproduce import expected, graded
from lightning_sep.settings import compose

SMALL = [
    *("task=separation", "tracking=none", "net.levels=2", "net.filters=4", "trainer.epochs=2"),
    *("examples.segment_s=0.25", "examples.train=8", "examples.val=4", "examples.test=4"),
    *("examples.batch_size=4", "trainer.progress=false"),
]
KEY = "test/si_sdr_improvement_db"


@pytest.fixture(scope="module")
def trained(data_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same setting with three seeds."""
    home = tmp_path_factory.mktemp("runs")
    seeds = [compose([*SMALL, f"seed={seed}"]) for seed in range(3)]
    return [experiment.run(one, home=home).folder for one in seeds]


@pytest.fixture
def first(trained: list[Path], home: Path) -> Path:
    """The first of them, in a home of this test."""
    return Path(shutil.copytree(trained[0], home / trained[0].name))


def test_a_run_is_equal_to_the_bit_and_trained_anew_each_time(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    for count in (1, 2):
        assert main(["reproduce", first.name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["grade"], found["differs"]) == ("bitwise", {})
        assert found["recorded"] == found["again"] == read_record(first)["metrics"][KEY]
        anew = Path(found["folder"])
        assert anew.parent.name == str(count)
        assert (anew / "metrics.jsonl").stat().st_mtime > (first / "metrics.jsonl").stat().st_mtime
    told = [json.loads(line) for line in (first / FILE).read_text().splitlines()]
    assert [one["grade"] for one in told] == ["bitwise", "bitwise"]
    assert all(path.read_bytes() == content for path, content in before.items())


def weights(folder: Path) -> Path:
    return next((folder / "checkpoints").glob("best*.ckpt"))


@pytest.mark.parametrize("part", ["record.json", "examples", "weights", "missing"])
def test_what_was_changed_is_refused_by_name(
    first: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    path = {
        "record.json": first / "record.json",
        "examples": next(first.glob("test_examples*.json")),
    }.get(part, weights(first))
    if part == "missing":
        path.unlink()
    elif part == "record.json":
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 9', 1))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert main(["reproduce", first.name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert path.name in error
    assert not (first / FILE).exists()


def test_other_data_are_refused(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(first)
    assert record is not None
    record["data"] = dict.fromkeys(record["data"], "0" * 64)
    (first / "record.json").unlink()
    write_record(first, record)
    assert main(["reproduce", first.name]) == 2
    assert "is not what run" in capsys.readouterr().err


def test_what_is_not_as_it_was_is_said_once_and_in_short(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record: dict[str, Any] = read_record(first) or {}
    lock, record["hashes"]["lock"] = record["hashes"]["lock"], "0" * 64
    (first / "record.json").unlink()
    write_record(first, record)
    assert main(["reproduce", first.name, "--eval-only"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == f"lock: was 000000000000, is {lock[:12]}"
    assert "lock" not in told.out


def test_a_run_that_is_not_finished_is_refused(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record: dict[str, Any] = read_record(first) or {}
    (first / "record.json").unlink()
    write_record(first, record | {"state": "pruned"})
    assert main(["reproduce", first.name]) == 2
    assert "no finished run" in capsys.readouterr().err


def test_what_is_not_as_it_was_is_named_before_anything_is_trained(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(first)
    assert record is not None
    (first / "record.json").unlink()
    hashes = record["hashes"]
    moved = first.rename(first.with_name("0ther"))
    others = {"run_id": "0ther", "hashes": hashes | {"lock": "old lock", "code": "old code"}}
    write_record(moved, record | others)
    assert main(["reproduce", "0ther", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["grade"] == "bitwise"
    assert found["differs"] == {
        "run id, by the code that its settings reach": ["0ther", record["run_id"]],
        "lock": ["old lock", hashes["lock"]],
        "code of the package": ["old code", hashes["code"]],
    }
    for name, (before, after) in found["differs"].items():
        assert f"{name}: was {before}, is {after[:12]}\n" in said.err


def test_a_reproduction_that_was_interrupted_goes_on_in_its_folder(
    first: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = iter([False] * 3)
    with pytest.raises(Interrupted):
        reproduce.reproduce(first, home=home, should_stop=lambda: next(asked, True))
    assert main(["reproduce", first.name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["grade"], Path(found["folder"]).parent.name) == ("bitwise", "1")
    assert read_record(Path(found["folder"]))["attempts"] == 2  # type: ignore[index]


def test_weights_are_tested_with_the_threads_that_they_were_trained_with(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert main(["reproduce", first.name, "--eval-only", "--json"]) == 0
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    found = json.loads(capsys.readouterr().out)
    assert (found["grade"], found["differs"]) == ("bitwise", {})


def result(folder: Path, *, value: float, fingerprint: str, weights: str) -> experiment.Result:
    record = json.loads((folder / "record.json").read_text())
    record["metrics"][KEY] = value
    record["fingerprint_hash"] = fingerprint
    record["hashes"]["weights"] = weights
    return experiment.Result(folder.name, folder, "finished", record, value)


def test_other_machines_are_judged_by_the_other_seeds(trained: list[Path]) -> None:
    home = trained[0].parent
    record = read_record(trained[0])
    assert record is not None
    scores = [read_record(one)["metrics"][KEY] for one in trained]  # type: ignore[index]
    mean, n = sum(scores) / 3, 3
    spread = (sum((one - mean) ** 2 for one in scores) / (n - 1)) ** 0.5
    reach = 4.302652729911275 * spread * (1 + 1 / n) ** 0.5  # Student's t, 2 degrees, 97.5 %
    # what is of another setting, or has no result, predicts nothing
    for name, told in (("another", {"config_hash": "other"}), ("failed", {"state": "failed"})):
        (home / name).mkdir()
        said = record | {"metrics": {KEY: 99.0}} | told
        (home / name / "record.json").write_text(json.dumps(said))
    interval = expected(record, home, metric_of(read_run(trained[0])))
    for name in ("another", "failed"):
        shutil.rmtree(home / name)
    assert interval == pytest.approx((mean - reach, mean + reach), rel=1e-9)

    def grade(value: float, fingerprint: str, weights: str, place: Path = home) -> str:
        made = result(trained[0], value=value, fingerprint=fingerprint, weights=weights)
        return graded(trained[0], record, made, place, {}).grade

    rate = replace(metric_of(read_run(trained[0])), low=mean)  # a metric that cannot be lower
    assert expected(record, home, rate) == pytest.approx((mean, mean + reach), rel=1e-9)

    here, same = record["fingerprint_hash"], record["hashes"]["weights"]
    assert grade(scores[0], here, same) == "bitwise"
    assert grade(scores[0], "other", same) == "bitwise"
    assert grade(mean, "other", "others") == "statistical"
    assert grade(mean + 1.01 * reach, "other", "others") == "different"
    assert grade(mean - 1.01 * reach, "other", "others") == "different"
    assert grade(scores[0], here, "others") == "different"  # nothing excuses it
    assert grade(mean, "other", "others", home / "empty") == "different"  # nothing predicts it


def test_numbers_of_another_machine_are_numeric_where_the_measured_drift_is_small(
    trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(trained[0])
    assert record is not None
    scores = [read_record(one)["metrics"][KEY] for one in trained]  # type: ignore[index]

    def grade(value: float, fingerprint: str) -> tuple[str, float | None]:
        made = result(trained[0], value=value, fingerprint=fingerprint, weights="others")
        found = graded(trained[0], record, made, trained[0].parent, {})
        return found.grade, found.drift

    near, here = scores[0] + 0.9e-3, record["fingerprint_hash"]
    assert grade(near, "other") == ("statistical", 0.43)  # a separator drifts like another seed
    measured = {"separation": 0.43, "autoregression": 2e-6, "verification": 0.047}
    assert measured == reproduce.TRAINED_DRIFT
    monkeypatch.setitem(reproduce.TRAINED_DRIFT, "separation", 1e-6)
    assert grade(near, "other") == ("numeric", 1e-6)
    assert grade(scores[0] + 1.1e-3, "other")[0] == "statistical"
    assert grade(near, here) == ("different", 1e-6)
    monkeypatch.delitem(reproduce.TRAINED_DRIFT, "separation")
    assert grade(near, "other") == ("statistical", None)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_kept_weights_that_give_other_values_are_told_from_arithmetic(
    first: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    elsewhere: bool,
) -> None:
    examples = next(first.glob("test_examples*.json"))
    values = json.loads(examples.read_text())
    values[KEY][0] += 1e-5
    examples.write_text(json.dumps(values))
    record = read_record(first)
    assert record is not None
    record["hashes"]["examples"] = hashlib.sha256(examples.read_bytes()).hexdigest()
    (first / "record.json").unlink()
    write_record(first, record)
    if elsewhere:
        monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")  # read when torch was loaded: only noted now
    assert main(["reproduce", first.name, "--eval-only", "--json"]) == int(not elsewhere)
    found = json.loads(capsys.readouterr().out)
    assert found["grade"] == ("numeric" if elsewhere else "different")
    assert found["drift"] == 4e-8
    told = json.loads((first / FILE).read_text())
    assert (told["grade"], told["eval_only"]) == (found["grade"], True)
    assert told["record"] == read_record(first)["hashes"]["record"]  # type: ignore[index]
    assert (told["fingerprint_hash"] == record["fingerprint_hash"]) is not elsewhere
