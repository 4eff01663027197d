"""A sweep that Python asks for."""

from pathlib import Path

import pytest

import lightning_sep


def test_a_grid_is_trained_in_the_home_that_is_asked_for(
    tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "asked"
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path / "another"))
    found = lightning_sep.sweep(
        grid=["head=tanh,sine"],
        overrides=[
            *("task=autoregression", "net=lstm_small", "trainer.epochs=1", "tracking=none"),
            *("examples.train=8", "examples.val=4", "examples.test=4"),
            "launcher.workers=1",
        ],
        home=home,
        name="heads",
        finalists=1,
    )
    assert list(found["head"]) == ["tanh", "sine"]
    assert list(found["state"]) == ["finished", "finished"]
    assert (home / "sweeps" / "heads" / "trials.json").exists()
    # the end of a sweep lets one hear its first row: three examples, as recorded and continued
    assert (home / "sweeps" / "heads" / "report.html").read_text().count("<audio") == 6
    assert (home / "sweeps" / "heads" / "sounds" / "autoregression" / "sounds.json").exists()
