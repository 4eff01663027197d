"""What several processes come to together, in real runs: what one comes to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_sep import experiment, ranks
from lightning_sep.errors import ConfigError, Interrupted, LeaseLost
from lightning_sep.experiment import Result
from lightning_sep.parts import build_parts
from lightning_sep.settings import compose
from tests.ddp.conftest import PLUGIN
from tests.faults.harness import history

SHARED = ["tracking=none", "trainer.epochs=2", "trainer.device=cpu", "trainer.progress=false"]
SEPARATION = [
    *("task=separation", "net.levels=2", "net.filters=4", "examples.segment_s=0.25"),
    *("examples.train=21", "examples.val=5", "examples.test=5", "examples.batch_size=4"),
]
TASKS = {  # the last batch of each leaves some of four processes without an example
    "separation": [*SEPARATION, "reweighting=class_bias", "reweighting.gamma={speech: 1.0}"],
    "autoregression": [
        *("task=autoregression", "net.hidden=8", "net.dropout=0.2", "net.input_dropout=0.1"),
        *("task.frame_samples=40", "task.input_noise=0.05", "task.teacher_forcing_slope=0.05"),
        *("head=mu_law_softmax", "examples.frames=10", "examples.train=25", "examples.val=7"),
        *("examples.test=5", "examples.batch_size=8", "reweighting=loss_softmax"),
    ],
    "verification": [
        *("task=verification", "net.hidden=8", "net.dropout=0.3", "net.dense=[8]"),
        *("task.embed=6", "task.bands=8", "examples.train=4", "reweighting=curriculum"),
    ],
}


def ran(home: Path, overrides: list[str], *, config_dir: Path | None = None, **asks: Any) -> Result:
    settings = compose([*SHARED, *overrides], config_dir)
    return experiment.run(settings, home=home, purpose="search", sweep="s", **asks)


def values_of(result: Result) -> dict[str, Any]:
    path = result.folder / result.record["examples_file"]
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def after(count: int) -> Callable[[], bool]:
    """Asks to stop after being asked so often."""
    asked = iter([False] * count)
    return lambda: next(asked, True)


@pytest.mark.parametrize("task", TASKS)
def test_two_and_four_processes_come_to_what_one_comes_to(task: str, tmp_path: Path) -> None:
    alone = ran(tmp_path / "1", TASKS[task])
    assert "ranks" not in alone.record["environment"]
    for number in (4, 2):
        several = ran(tmp_path / str(number), [*TASKS[task], f"trainer.devices={number}"])
        assert several.run_id == alone.run_id
        assert several.record["environment"]["ranks"] == number
        rows, others = history(alone.folder), history(several.folder)
        assert len(rows) == len(others) == 2
        for row, other in zip(rows, others, strict=True):
            assert other == pytest.approx(row, rel=1e-5, abs=1e-5, nan_ok=True)
        metrics = several.record["metrics"]
        assert metrics == pytest.approx(alone.record["metrics"], rel=1e-5, abs=1e-5, nan_ok=True)
        expected, found = values_of(alone), values_of(several)
        assert expected.keys() == found.keys()
        for name, listed in expected.items():
            if np.asarray(listed).dtype.kind in "fiu":
                np.testing.assert_allclose(found[name], listed, rtol=1e-5, atol=1e-5)
            else:
                assert found[name] == listed, name


def test_a_run_of_four_that_is_stopped_within_an_epoch_ends_as_one_that_is_not(
    tmp_path: Path,
) -> None:
    overrides = [*TASKS["autoregression"], "trainer.devices=4", "trainer.checkpoint_every_steps=1"]
    whole = ran(tmp_path / "whole", overrides)
    for stops in (2, 6):  # in the first epoch, and in the validation after it
        with pytest.raises(Interrupted):
            ran(tmp_path / "parts", overrides, should_stop=after(stops))
    parts = ran(tmp_path / "parts", overrides)
    assert history(parts.folder) == history(whole.folder)
    assert parts.record["metrics"] == whole.record["metrics"]
    for part in ("weights", "examples"):
        assert parts.record["hashes"][part] == whole.record["hashes"][part]
    ready = ranks._team
    assert ready is not None
    assert not ready.over, "those who are told to stop are ready for the next run"


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    overrides = [*TASKS["separation"], "trainer.checkpoint_every_steps=1"]
    whole = ran(tmp_path / "whole", overrides)
    with pytest.raises(Interrupted):
        ran(tmp_path / "parts", [*overrides, "trainer.devices=2"], should_stop=after(3))
    parts = ran(tmp_path / "parts", overrides)
    for row, other in zip(history(whole.folder), history(parts.folder), strict=True):
        assert other == pytest.approx(row, rel=1e-5, abs=1e-5, nan_ok=True)


def test_a_lease_that_is_lost_stops_all_at_the_same_write(tmp_path: Path) -> None:
    overrides = [*TASKS["separation"], "trainer.devices=2"]
    whole = ran(tmp_path / "whole", overrides)
    calls = 0

    def guard() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise LeaseLost("another process has taken over")

    with pytest.raises(LeaseLost):
        ran(tmp_path / "lost", overrides, guard=guard)
    assert ranks._team is not None
    assert not ranks._team.over
    again = ran(tmp_path / "lost", overrides)
    assert history(again.folder) == history(whole.folder)


def test_fault_16_the_first_process_decides_for_those_that_measure_something_else(
    tmp_path: Path,
) -> None:
    """Without the first one's word, one of two would run out of patience and the other not."""
    overrides = [*SEPARATION, "task=disagreeing", "trainer.devices=2", "trainer.epochs=4"]
    told: list[float] = []

    def report(epoch: int, value: float) -> bool:
        told.append(value)
        return epoch == 2

    pruned = ran(
        tmp_path, [*overrides, "trainer.patience=1"], config_dir=PLUGIN / "conf", report=report
    )
    assert told == [0.0, 1.0, 2.0]
    assert pruned.state == "pruned"
    assert [row["val/si_sdr_improvement_db"] for row in history(pruned.folder)] == told
    assert pruned.record["monitor"]["epoch"] == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["trainer.nodes=2"], "trainer.nodes = 2: srun has to start"),
        (["trainer.devices=2", "trainer.device=cuda"], "this machine has 1 GPU"),
        (["trainer.devices=5"], "examples.batch_size = 4: 5 devices share a batch"),
        (["trainer.strategy=fsdp"], "strategy"),
        (["trainer.devices=0"], "devices = 0"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    settings: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError) as refused:
        ran(tmp_path, [*SEPARATION, *settings])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not any(tmp_path.iterdir())


def test_a_process_may_have_one_example_of_a_batch() -> None:
    assert build_parts(compose([*SEPARATION, "trainer.devices=4"])).examples.batch_size == 4


def test_a_step_in_micro_batches_its_mean_and_its_beginning_are_those_of_one(
    tmp_path: Path,
) -> None:
    small = [*TASKS["autoregression"], "examples.batch_size=4", "trainer.limit_batches=2"]
    parent = ran(tmp_path / "1", [*small, "seed=3", "trainer.epochs=1"])
    begun = [*small, f"init_from={parent.folder}", "trainer.accumulate=3", "trainer.ema=0.9"]
    alone = ran(tmp_path / "1", begun)
    several = ran(tmp_path / "2", [*begun, "trainer.devices=2"])
    assert several.run_id == alone.run_id
    for row, other in zip(history(alone.folder), history(several.folder), strict=True):
        assert other == pytest.approx(row, rel=1e-5, abs=1e-5, nan_ok=True)
    metrics = several.record["metrics"]
    assert metrics == pytest.approx(alone.record["metrics"], rel=1e-5, abs=1e-5, nan_ok=True)
