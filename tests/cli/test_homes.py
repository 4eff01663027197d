"""Where things lie."""

from pathlib import Path

import pytest

from lightning_sep.homes import data_home, runs_home


@pytest.mark.parametrize(
    ("variable", "home", "usual"),
    [("LIGHTNING_SEP_HOME", runs_home, "runs"), ("LIGHTNING_SEP_DATA", data_home, "data")],
)
def test_an_empty_variable_is_none(monkeypatch, variable, home, usual):
    """As in a script whose own variable was not set: not the folder one stands in."""
    monkeypatch.delenv(variable, raising=False)
    assert home() == Path(usual)
    monkeypatch.setenv(variable, "")
    assert home() == Path(usual)
    monkeypatch.setenv(variable, "/elsewhere")
    assert home() == Path("/elsewhere")
