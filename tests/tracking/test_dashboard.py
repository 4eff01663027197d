"""What a run is called at W&B, what it is grouped by and which way its metrics are better."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_sep.tracking.dashboard import Mirror


def told(home: Path, *overrides: str, **changes: Any) -> Mirror:
    """The mirror of a run of which nothing matters but what a test says."""
    about: dict[str, Any] = {
        "run_id": "abc",
        "task": "separation",
        "settings": {
            "net": {"_target_": "lightning_sep.nets.lstm.Lstm", "hidden": 8},
            "head": {"_target_": "lightning_sep.heads.tanh.Tanh"},
            "trainer": {"epochs": 2, "workers": 3},
            "tracking": {"project": "mine"},
            "seed": 7,
        },
        "overrides": [*overrides, "seed=7"],
        "sweep": None,
        "trial": None,
        "purpose": "single",
        "seed": 7,
        "config_hash": "c0ffee",
        "monitor": {"name": "val/equal_error_rate", "mode": "min"},
        "data": {"digits": "d1"},
        "environment": {"code_hash": "c1", "code_revision": "c2", "versions": {"torch": "2.13"}},
    }
    return Mirror.of(about | changes, home=home, project="mine")


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A home with a sweep that has two settings in common."""
    path = tmp_path / "sweeps" / "heads" / "sweep.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"asks": {"settings": ["net=lstm"]}, "extra": ["trainer.epochs=2"]}))
    return tmp_path


def test_a_single_run_is_called_by_its_parts_and_grouped_with_its_other_seeds(tmp_path) -> None:
    found = told(tmp_path, "task=separation", "net.hidden=8", "trainer.epochs=2")
    assert (found.name, found.group, found.job_type) == (
        "tanh hidden=8 s7",
        "tanh hidden=8",
        "train",
    )
    assert found.tags == ["single", "head=tanh", "net=lstm"]


def test_a_run_of_a_sweep_is_called_by_what_the_sweep_varies(swept: Path) -> None:
    asked = ("net=lstm", "trainer.epochs=2", "optimizer.lr=0.1", "head=sine")
    found = told(swept, *asked, sweep="heads", trial=4, purpose="search")
    assert (found.name, found.group) == ("sine lr=0.1 s7", "heads/sine lr=0.1")
    assert (found.job_type, found.tags[0]) == ("search", "search")
    assert (found.config["sweep"], found.config["trial"]) == ("heads", 4)


def test_the_config_has_each_number_where_it_belongs(tmp_path) -> None:
    config = told(tmp_path).config
    assert config["data_hash"] == "d1"
    assert (config["code_hash"], config["code_revision"]) == ("c1", "c2")
    assert (config["versions.torch"], config["seed"]) == ("2.13", 7)
    assert (config["head"], config["net"], config["net.hidden"]) == ("tanh", "lstm", 8)
    assert config["trainer.epochs"] == 2
    assert not [name for name in config if name.startswith(("tracking", "trainer.workers"))]


def test_names_that_wandb_cuts_stay_apart(swept: Path) -> None:
    long = "x.y=" + 150 * "a"
    one, two = (
        told(swept, f"{long}{end}", sweep="heads", purpose="final", config_hash=f"hash{end}")
        for end in "12"
    )
    assert len(one.group) <= 128 >= len(one.name)
    assert one.group.startswith("heads/tanh ") or one.group.startswith("heads/y=")
    assert (one.group[-5:], two.group[-5:]) == ("hash1", "hash2")


def test_a_group_that_the_user_asks_for_is_the_group(swept: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    assert told(swept, "head=sine", sweep="heads").group == "mine"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_test_metrics_are_better_in_the_direction_of_what_is_monitored(tmp_path, mode) -> None:
    found = told(tmp_path, monitor={"name": "val/equal_error_rate", "mode": mode})
    assert found.directions() == {
        "val/equal_error_rate": mode,
        "test/equal_error_rate*": mode,
        "test/loss*": "min",
        "test/min_dcf": "min",
    }


def test_what_is_kept_for_an_upload_is_read_as_it_was(tmp_path: Path) -> None:
    found = told(tmp_path, entity="me")
    found.write(tmp_path)
    assert Mirror.read(tmp_path) == found
    assert Mirror.read(tmp_path / "nowhere") is None
