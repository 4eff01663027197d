"""A run by value: its seed, the epoch that is tested, what its record says, what stays behind."""

import json
import random
import re
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lightning_sep import experiment, parts, training
from lightning_sep.callbacks import history
from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError, DataError, Interrupted, LeaseLost
from lightning_sep.evaluate import evaluate
from lightning_sep.fingerprint import digest, fingerprint, software, weights_hash
from lightning_sep.fsio import read_lines
from lightning_sep.heads.tanh import Tanh
from lightning_sep.parts import build_parts, identify, loader_of, open_data, print_model
from lightning_sep.record import read_record
from lightning_sep.run_folder import RunFolder
from lightning_sep.run_id import config_hash, run_id
from lightning_sep.settings import Settings, compose
from lightning_sep.watching import show_epoch

MONITOR = "val/si_sdr_improvement_db"


def folder_of(home: Path) -> Path:
    [folder] = [path for path in home.iterdir() if path.name != "leases"]
    return folder


def values(folder: Path) -> list[float]:
    return [row[MONITOR] for row in read_lines(folder / "metrics.jsonl")]


def test_the_best_epochs_weights_are_tested_not_the_last_ones(undisturbed):
    shown = values(undisturbed.folder)
    assert shown[-1] < max(shown), "or both would be the same"
    record = undisturbed.record
    result, path = evaluate(undisturbed.run_id, ["data=synthetic"], home=undisturbed.folder.parent)
    path.unlink()
    expected = {name: v for name, v in record["metrics"].items() if name.startswith("test/")}
    assert result["metrics"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    row = read_lines(undisturbed.folder / "metrics.jsonl")[record["monitor"]["epoch"]]
    rest = {name: value for name, value in row.items() if "/" in name}
    assert {name: v for name, v in record["metrics"].items() if name not in expected} == rest
    found = best_weights(RunFolder(undisturbed.folder), undisturbed.run_id, row["step"])
    assert found is not None
    assert weights_hash(found[1]["state_dict"]) == record["hashes"]["weights"]


def test_a_seed_decides_weights_and_batches(settings, data_home):
    def start(seed: int) -> tuple[str, torch.Tensor]:
        made = settings(f"seed={seed}")
        parts = build_parts(made)
        assert parts.task.seed == seed, "of what a task draws at each step"
        batch = next(iter(loader_of(made.tree, parts)("train")))
        return weights_hash(parts.task.state_dict()), batch.waveform

    state = torch.random.get_rng_state()
    (first, batch), (again, same), (other, another) = start(0), start(0), start(5)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's numbers stay"
    assert first == again != other
    assert torch.equal(batch, same)
    assert not torch.equal(batch, another)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.rand(3)
        assert weights_hash(build_parts(settings("seed=0")).task.state_dict()) == first


def draws() -> tuple[float, float, float]:
    """A number of each generator that everybody shares."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_what_a_part_draws_depends_on_the_seed_alone(tmp_path, settings, monkeypatch):
    """Whatever it draws from, and whatever has been drawn before: as training begins, and later."""

    def drawn(seed: int, before: int) -> list[tuple[float, float, float]]:
        found = []

        def report(epoch: int, value: float) -> bool:
            found.append(draws())
            return False

        monkeypatch.setattr(Reweight, "on_fit_start", lambda *_: found.append(draws()))
        random.seed(before)
        np.random.seed(before)
        torch.manual_seed(before)
        made = settings(f"seed={seed}", "trainer.epochs=1", "trainer.workers=0")
        home = tmp_path / f"{seed}-{before}"
        experiment.run(made, home=home, report=report, data=prepared)
        return [one for each in found for one in each]

    prepared = open_data(settings())
    for room in (experiment, parts):
        monkeypatch.setattr(room, "open_data", None)  # what is open is not opened again

    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        first, again, other = drawn(0, 1), drawn(0, 2), drawn(5, 2)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
    assert first == again
    assert len(first) == 6
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_what_a_part_draws_is_the_same_after_stops(tmp_path, settings, monkeypatch):
    """From whichever generator, in training, in validation and in the test."""

    def view(head: Tanh, raw: torch.Tensor) -> torch.Tensor:
        return raw.squeeze(-1).tanh() * (1 - 0.1 * sum(draws()))

    def run(home: str, stop_after: int = 1000) -> experiment.Result:
        asked = iter(range(1001))
        return experiment.run(
            made, home=tmp_path / home, should_stop=lambda: next(asked) >= stop_after
        )

    monkeypatch.setattr(Tanh, "training_view", view)
    made = settings("head=tanh", "trainer.epochs=2")
    whole = run("whole")
    for stop_after, words in [(2, "at step 2"), (1, "in validation"), (6, "in the test")]:
        with pytest.raises(Interrupted, match=words):
            run("parts", stop_after)
    parts = run("parts")
    assert parts.record["metrics"] == whole.record["metrics"]
    assert parts.record["hashes"]["weights"] == whole.record["hashes"]["weights"]


def test_a_run_that_failed_is_tried_again_by_its_own_sweep_too(tmp_path, settings):
    def fails(epoch: int, value: float) -> bool:
        raise ValueError("no")

    about: dict[str, Any] = {"home": tmp_path, "purpose": "search", "sweep": "a"}
    with pytest.raises(ValueError, match="no"):
        experiment.run(settings(), report=fails, **about)
    record = read_record(folder_of(tmp_path))
    assert record is not None
    assert (record["state"], record["error"], record["metrics"]) == ("failed", "no", {})
    assert record["settings"] == settings().tree
    assert experiment.run(settings(), **about).state == "finished"


def test_an_id_is_that_of_settings_and_data(settings, data_home):
    made = settings()
    prepared = open_data(made)
    assert identify(made, prepared) == run_id(made.tree, prepared.hash)
    assert identify(made) == identify(made, prepared)
    assert identify(made, SimpleNamespace(hash="another")) == run_id(made.tree, "another")


def test_a_record_says_what_was_run_on_what(undisturbed, settings):
    record, made = undisturbed.record, settings()
    prepared = open_data(made)
    machine = fingerprint("cpu", made.tree["trainer"]["deterministic"])
    expected = {
        "run_id": identify(made, prepared),
        "config_hash": config_hash(made.tree),
        "state": "finished",
        "purpose": "single",
        "task": "separation",
        "settings": made.tree,
        "overrides": list(made.overrides),
        "seed": 0,
        "sweep": None,
        "trial": None,
        "data": {"synthetic": prepared.hash},
        "fingerprint": machine,
        "fingerprint_hash": digest(machine),
        "environment": {**software(), **machine},
        "attempts": 1,
        "parameters": sum(one.numel() for one in build_parts(made).task.parameters()),
    }
    assert {name: record[name] for name in expected} == json.loads(json.dumps(expected))
    shown = values(undisturbed.folder)
    best = shown.index(max(shown))
    assert record["monitor"] == {
        "name": MONITOR,
        "mode": "max",
        "value": max(shown),
        "epoch": best,
    }
    assert undisturbed.monitored == max(shown)
    hashes = record["hashes"]
    assert hashes.keys() == {"examples", "weights", "lock", "code", "data", "record"}
    assert (hashes["lock"], hashes["code"]) == (software()["lock_hash"], software()["code_hash"])
    assert hashes["data"] == digest(record["data"])
    [attempted] = record["attempted"]
    assert attempted.keys() == {"started", "generation", "host", "fingerprint_hash"}
    assert record["facts"] == build_parts(made).task.facts.plain()
    assert record["coverage"] == build_parts(made).examples.coverage(prepared, seed=0, epochs=3)
    assert yaml.safe_load((undisturbed.folder / "settings.yaml").read_text()) == made.tree
    [told] = read_lines(undisturbed.folder / "attempts.jsonl")
    assert told["fingerprint"] == machine
    assert record["started"] <= record["finished"]
    kept = json.loads((undisturbed.folder / record["examples_file"]).read_text())
    assert kept["test/index"] == [0, 1, 2, 3]
    assert len(kept["test/classes"]) == len(kept["test/groups"]) == 4
    mean = np.nanmean(np.array(kept["test/si_sdr_improvement_db"], dtype=float))
    assert record["metrics"]["test/si_sdr_improvement_db"] == pytest.approx(mean, rel=1e-5)


def test_the_trainer_gets_what_the_settings_say(tmp_path, settings, monkeypatch):
    given: list[dict[str, Any]] = []

    class Noted(training.pl.Trainer):
        def __init__(self, **arguments: Any) -> None:
            given.append(arguments)
            super().__init__(**arguments)

    monkeypatch.setattr(training.pl, "Trainer", Noted)
    told = ["trainer.gradient_clip=0.25", "trainer.epochs=1", "trainer.precision=bf16-mixed"]
    experiment.run(settings(*told), home=tmp_path / "one")
    loose = settings("trainer.deterministic=false", "trainer.epochs=2")
    record = experiment.run(loose, home=tmp_path / "b").record
    assert record["fingerprint"] == fingerprint("cpu", False)
    said = ("gradient_clip_val", "max_epochs", "precision", "deterministic", "accelerator")
    assert [tuple(one[name] for name in said) for one in given] == [
        (0.25, 1, "bf16-mixed", "warn", "cpu"),
        (settings().tree["trainer"]["gradient_clip"], 2, "32", False, "cpu"),
    ]
    assert {one["num_sanity_val_steps"] for one in given} == {0}


def test_a_run_computes_with_its_threads_and_gives_them_back(tmp_path, settings):
    before = torch.get_num_threads()
    seen = []

    def report(epoch: int, value: float) -> bool:
        seen.append(torch.get_num_threads())
        return False

    count = before + 1
    made = settings(f"trainer.threads={count}", "trainer.epochs=1")
    record = experiment.run(made, home=tmp_path, report=report).record
    assert seen == [count]
    assert record["fingerprint"]["threads"] == count
    assert torch.get_num_threads() == before


def lost(*_: object) -> None:
    raise LeaseLost("another worker has taken over")


def test_what_is_given_up_on_the_way_leaves_no_record(tmp_path, settings):
    def interrupts(epoch: int, value: float) -> bool:
        raise Interrupted("asked")

    def refuses(epoch: int, value: float) -> bool:
        raise DataError("a file is gone")

    def loses(epoch: int, value: float) -> bool:
        raise LeaseLost("another worker has taken over")

    def pressed(epoch: int, value: float) -> bool:
        raise KeyboardInterrupt

    for error, report in [
        (Interrupted, interrupts),
        (DataError, refuses),
        (LeaseLost, loses),
        (KeyboardInterrupt, pressed),
    ]:
        home = tmp_path / error.__name__
        with pytest.raises(error):
            experiment.run(settings(), home=home, report=report)
        assert not list(folder_of(home).glob("record*")), error
        lease = json.loads((folder_of(home) / "lease.json").read_text())
        assert (lease["token"], lease["generation"]) == ("", 1)


def test_the_outer_guard_is_asked_before_each_write(tmp_path, settings):
    calls: list[dict[str, tuple[int, int]]] = []

    def guard() -> None:
        found = {path.name: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
        calls.append({name: (one.st_ino, one.st_mtime_ns) for name, one in found.items()})

    experiment.run(settings(), home=tmp_path, guard=guard)
    assert "settings.yaml" not in calls[0]
    assert any("record.json" in seen for seen in calls) is False
    guard()
    for before, after in pairwise(calls):
        written = {name for name, state in after.items() if before.get(name) != state}
        kinds = {re.split(r"[-.\d]", name)[0] for name in written} - {"log", "lease"}
        assert kinds <= {"settings", "attempts"} or len(kinds) < 2, written
    began = len(calls) - 1
    assert began > 8
    for last in (0, began - 1):  # the first write of all, and that of the record
        home = tmp_path / f"lost-{last}"
        asked = iter(range(1000))

        def fails(asked: Any = asked, last: int = last) -> None:
            if next(asked) >= last:
                lost()

        with pytest.raises(LeaseLost):
            experiment.run(settings(), home=home, guard=fails)
        names = {path.name for path in folder_of(home).rglob("*") if path.is_file()}
        assert names - {"lease.json", "lease.lock", "log.txt"} == set() if not last else True
        assert "record.json" not in names


@pytest.mark.parametrize(("sweep", "judged"), [("b", True), ("a", False)])
def test_a_pruned_run_keeps_what_it_could_go_on_from(tmp_path, settings, sweep, judged):
    """Another sweep goes on, and so does one of the same name whose trial nobody has judged."""
    pruned = experiment.run(
        settings(), home=tmp_path, purpose="search", sweep="a", report=lambda epoch, _: epoch == 1
    )
    assert [one.step for one in RunFolder(pruned.folder).steps()] == [8, 6]
    itself = {"home": tmp_path, "purpose": "search", "sweep": "a", "judged": True}
    assert experiment.run(settings(), **itself).record == pruned.record
    running = []

    def report(epoch: int, value: float) -> bool:
        running.append((epoch, read_record(pruned.folder)))
        return False

    result = experiment.run(
        settings(), home=tmp_path, purpose="search", sweep=sweep, judged=judged, report=report
    )
    assert running == [(2, None)], "it goes on, and there is no record meanwhile"
    assert result.state == "finished"
    assert json.loads((pruned.folder / "record.pruned.json").read_text())["state"] == "pruned"


def test_a_generation_that_files_carry_is_not_used_again_without_its_lease(tmp_path, settings):
    made = settings()
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        experiment.run(made, home=tmp_path, should_stop=lambda: next(asked) >= 3)
    folder = folder_of(tmp_path)
    assert RunFolder(folder).generation() == 1
    (folder / "lease.json").unlink()
    result = experiment.run(made, home=tmp_path)
    assert [one["generation"] for one in result.record["attempted"]] == [1, 2]
    assert list(result.record["checkpoints"]) == ["best.2.ckpt"]


def test_the_best_weights_of_an_earlier_attempt_are_taken_over(tmp_path, settings, undisturbed):
    """They are of the first epoch, and the stop is in the third."""
    assert undisturbed.record["monitor"]["epoch"] == 0
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        experiment.run(settings(), home=tmp_path, should_stop=lambda: next(asked) >= 12)
    result = experiment.run(settings(), home=tmp_path)
    assert result.record["hashes"]["weights"] == undisturbed.record["hashes"]["weights"]
    log = (result.folder / "log.txt").read_text()
    assert list(result.record["checkpoints"]) == ["best.2.ckpt"]
    assert [path.name for path in RunFolder(result.folder).bests()] == ["best.2.ckpt"]
    assert log.count("start at step") == 2
    assert "train again" not in log


def test_a_run_can_be_stopped_in_its_test_and_between_epochs(tmp_path, settings, undisturbed):
    # Three epochs are asked at their start, after the batches but the last and in validation.
    for last, words in [(3 * 5, "in the test at step 12"), (5, "after step 4"), (4, "validation")]:
        home = tmp_path / str(last)
        asked = iter(range(1000))
        with pytest.raises(Interrupted, match=words):
            experiment.run(settings(), home=home, should_stop=lambda a=asked, n=last: next(a) >= n)
        assert read_record(folder_of(home)) is None
        result = experiment.run(settings(), home=home)
        assert result.record["metrics"] == undisturbed.record["metrics"]


def test_a_history_that_is_harmed_meanwhile_is_written_anew(tmp_path, settings, undisturbed):
    def report(epoch: int, value: float) -> bool:
        [path] = [one for one in folder_of(tmp_path).glob("metrics.*.jsonl")]
        if epoch == 0:
            path.write_text("{}\n")
        elif epoch == 1:
            path.unlink()
        return False

    result = experiment.run(settings(), home=tmp_path, report=report)
    assert values(result.folder) == values(undisturbed.folder)
    assert len((result.folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_what_watches_hears_of_each_epoch_and_each_batch(tmp_path, settings, capsys, monkeypatch):
    """A second passes with each of them."""
    alive: list[int] = []
    monkeypatch.setattr(history, "time", SimpleNamespace(monotonic=lambda: 100.0 + len(alive)))
    made = settings("trainer.progress=true", "trainer.epochs=2")
    record = experiment.run(made, home=tmp_path, alive=lambda: alive.append(1)).record
    assert len(alive) == 2 * (4 + 1) + 1, "batches of training, validation and the test"
    assert (record["device_s"], record["wall_s"]) == (10.0, 11.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" · ")[0] for line in lines if line.startswith("epoch")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    experiment.run(made, home=tmp_path / "search", purpose="search")
    assert "epoch" not in capsys.readouterr().err


def test_a_line_of_progress_says_where_it_stands_and_how_long_it_takes(settings, capsys):
    tree = settings("trainer.progress=true", "trainer.epochs=5").tree
    row = {"epoch": 1, "time_s": 30.0, "train/loss": 1.25, MONITOR: -3.5}
    show_epoch(tree, MONITOR, "single", row)
    assert capsys.readouterr().err == (
        f"epoch 2/5 · train/loss 1.25 · {MONITOR} -3.5 · 30 s, about 45 s left\n"
    )


def test_a_damaged_record_of_a_failed_run_does_not_stop_the_next(tmp_path, settings: Any) -> None:
    made: Settings = settings()
    folder = tmp_path / identify(made)
    folder.mkdir()
    (folder / "record.json").write_text("{")
    assert experiment.run(made, home=tmp_path).state == "finished"
    assert len(list(folder.glob("record.json.damaged-*"))) == 1


MODEL = """
layer    type             gives           parameters
down     ModuleList                       552
down.0   Conv1d           [4, 4, 2000]    64
down.1   Conv1d           [4, 8, 1000]    488
bottom   Conv1d           [4, 12, 500]    1,452
upsample ModuleList                       0
upsample.0 LinearUpsampling [4, 12, 1000] 0
upsample.1 LinearUpsampling [4, 8, 2000]  0
up       ModuleList                       1,052
up.0     Conv1d           [4, 8, 1000]    808
up.1     Conv1d           [4, 4, 2000]    244
output   Conv1d           [4, 2, 2000]    12
raw values for a batch of 4: [4, 2, 1, 2000, 1]
parameters: 3,068
"""


def test_a_model_is_told_layer_by_layer(settings, data_home):
    told = print_model(settings("net.levels=2", "net.filters=4"))
    assert [line.split() for line in told.splitlines()] == [
        line.split() for line in MODEL.strip().splitlines()
    ]
    lstm = compose(["task=autoregression", "net=lstm_small", "data=synthetic"])  # gives a tuple
    [first] = [line for line in print_model(lstm).splitlines() if line.startswith("layers.0 ")]
    assert "LSTM" in first
    assert "]" in first


@pytest.mark.parametrize("when", ["is_built", "trains"])
def test_fault_31_a_source_edited_while_a_run_trains_leaves_no_record(
    tmp_path, settings, monkeypatch, when
):
    """Whatever is imported late, as by the first test example, is that of the run id or nothing."""
    name = f"late_parts_{when}"
    package = tmp_path / "parts" / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "late.py").write_text("GAIN = 1\n")
    (package / "head.py").write_text(
        "from lightning_sep.heads.tanh import Tanh\nclass Own(Tanh):\n    pass\n"
    )
    entry = tmp_path / "entries" / "head" / "own.yaml"
    entry.parent.mkdir(parents=True)
    entry.write_text(f"_target_: {name}.head.Own\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", name)
    made = compose([*settings().overrides, "head=own"], tmp_path / "entries")

    def edited() -> None:
        if f"{name}.late" not in sys.modules:
            (package / "late.py").write_text("GAIN = 2\n")
            import_module(f"{name}.late")

    def built(*given: Any) -> Any:
        parts = build_parts(*given)
        if when == "is_built":
            edited()
        return parts

    def report(epoch: int, value: float) -> bool:
        edited()
        return False

    monkeypatch.setattr(experiment, "build_parts", built)
    home = tmp_path / "runs"
    with pytest.raises(ConfigError, match=r"late\.py was edited after this process had begun"):
        experiment.run(made, home=home, report=report)
    assert not list(home.glob("*/record*"))
    assert bool(list(home.glob("*/attempts.jsonl"))) is (when == "trains")


def test_a_set_for_testing_only_trains_nothing(tmp_path, settings, mixtures, data_home):
    asked = ["data=given_mixtures", f"data.path={mixtures}", "examples=given"]
    made = compose(["task=separation", "tracking=none", *asked, "data.test_only=true"])
    with pytest.raises(DataError, match=r"was prepared for testing only, .*test_only=false"):
        experiment.run(made, home=tmp_path)
    assert not list(tmp_path.glob("*/record.json"))


def test_a_pruned_run_needs_no_weights(tmp_path, settings):
    """Nothing is tested with them, so that their loss is no reason to train again. Its last epoch
    is saved though it is not its turn: another sweep goes on from there."""

    def report(epoch: int, value: float) -> bool:
        if epoch == 1:
            for path in RunFolder(folder_of(tmp_path)).bests():
                path.unlink()
        return epoch == 1

    rarely = ["trainer.checkpoint_every_steps=null", "trainer.checkpoint_every_epochs=100"]
    record = experiment.run(settings(*rarely), home=tmp_path, report=report).record
    assert record["state"] == "pruned"
    assert [one.step for one in RunFolder(folder_of(tmp_path)).steps()] == [8]
    assert record["hashes"]["weights"] is None
    assert not any(name.startswith("test/") for name in record["metrics"])
    assert record["attempts"] == 1
    assert (folder_of(tmp_path) / "log.txt").read_text().count("start at step 0") == 1


def test_settings_from_a_file_name_the_task_too(tmp_path, settings, undisturbed):
    """Such settings know no entries' names."""
    tree = yaml.safe_load((undisturbed.folder / "settings.yaml").read_text())
    result = experiment.run(Settings(tree), home=tmp_path, report=lambda epoch, value: True)
    assert result.run_id == undisturbed.run_id
    assert result.record["task"] == undisturbed.record["task"]
