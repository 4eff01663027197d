"""The notebooks: each of their cells runs."""

import json
from pathlib import Path

import pandas
import pytest

import lightning_sep
from lightning_sep.errors import ConfigError
from lightning_sep.sweep import commands

ROOT = Path(__file__).parents[2]


def test_the_first_steps_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    trials = names["trials"]
    assert isinstance(trials, pandas.DataFrame)
    assert sorted(trials["head"]) == ["sine", "tanh"]
    assert set(trials["state"]) == {"finished"}
    assert all(len(runs) == 2 for runs in trials["runs"])
    runs = lightning_sep.records()
    assert len(runs) == 4, "the run of before is one of the grid's"
    assert set(runs["head"]) == {"tanh", "sine"}
    [best] = lightning_sep.leaderboard("single").to_dict("records")
    assert best["run_id"] == names["result"].run_id  # type: ignore[attr-defined]
    assert best["metric"] == "test/r2"
    with pytest.raises(ConfigError, match="nothing"):
        lightning_sep.leaderboard("nothing")


def test_a_room_that_is_called_stays_a_room() -> None:
    assert lightning_sep.sweep.commands is commands
    assert callable(lightning_sep.sweep)
    assert callable(lightning_sep.leaderboard)
