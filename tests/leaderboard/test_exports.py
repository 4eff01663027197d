"""A board as a table of runs and as a card of its best run, for other programs."""

import builtins
import csv
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_sep.cli.entry import main
from lightning_sep.leaderboard.board import load_boards

SEPARATION = "test/si_sdr_improvement_db"


@pytest.fixture(autouse=True)
def there(full_home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(full_home.path))


def test_a_table_has_a_line_per_run_with_what_it_was_asked_and_measured(
    full_home, tmp_path: Path
) -> None:
    out = tmp_path / "runs.csv"
    assert main(["export", "bounded_heads", "--csv", str(out)]) == 0
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    order = [
        ("setting/", "test/", "val/").index(f"{n.split('/')[0]}/") for n in lines[0] if "/" in n
    ]
    assert order == sorted(order)  # also of what only some runs have
    (board,) = load_boards(full_home.path, ["bounded_heads"]).boards
    expected: dict[str, Any] = {}
    for row in board.rows:
        for score in row.scores:
            expected[score.run.run_id] = ("ranked", row.standing.place, score.value)
    for one in board.apart:
        for run in one.row.runs:
            expected[run.run_id] = ("apart", None, run.metrics.get(SEPARATION))
    for one in board.tried:
        for run in one.runs:
            expected[run.run_id] = ("searched", None, None)
    assert len(lines) == len(expected) == 25 + 28
    for line in lines:
        standing, place, value = expected[line["run_id"]]
        assert line["place"] == ("" if place is None else str(place))
        assert line[SEPARATION] == ("" if value is None else repr(value))
        if standing == "apart":
            assert "4 of 5 seeds" in line["standing"] or "4 of 5 fresh" in line["standing"]
        else:
            assert line["standing"] == standing
    best = [line for line in lines if line["best"] == "True"]
    assert {line["setting/head"] for line in best} == {dict(board.best.label)["head"]}
    assert len(best) == 5
    assert list(lines[0])[:3] == ["board", "standing", "place"]


def test_a_model_card_is_yaml_and_words_about_the_best_run(full_home, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert main(["export", "bounded_heads", "--model-card", str(out)]) == 0
    _, head, body = out.read_text().split("---\n", 2)
    (board,) = load_boards(full_home.path, ["bounded_heads"]).boards
    run = next(s.run for s in board.best.scores if s.run.run_id == board.best.run_id)
    (entry,) = yaml.safe_load(head)["model-index"]
    (found,) = entry["results"]
    assert found["metrics"][0]["value"] == run.metrics[SEPARATION]
    assert found["task"] == {"type": "separation"}
    assert f"lightning-sep reproduce {run.run_id}" in body
    assert yaml.safe_load(body.split("```yaml\n")[1].split("```")[0]) == run.settings


def test_a_model_card_shows_names_as_people_write_them(home, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(home.path))
    home.write("a", metrics={SEPARATION: 1.0}, settings={"data": {"path": "/aufnahmen/Möwe"}})
    out = tmp_path / "README.md"
    assert main(["export", "bounded_heads", "--model-card", str(out)]) == 0
    assert "path: /aufnahmen/Möwe\n" in out.read_text(encoding="utf-8")
    assert "| device | cpu |" in out.read_text(encoding="utf-8")  # it does not say more


def test_what_is_not_installed_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = builtins.__import__

    def missing(name: str, *more: Any, **fields: Any) -> Any:
        if name == "pyarrow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *more, **fields)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["export", "margins", "--parquet", str(tmp_path / "a")]) == 2
    assert "--parquet needs pyarrow: pip install pandas pyarrow" in capsys.readouterr().err
    monkeypatch.setattr("lightning_sep.tracking.tensorboard.find_spec", lambda name: None)
    assert main(["export", "margins", "--tensorboard", str(tmp_path / "b")]) == 2
    said = "--tensorboard needs tensorboardX: pip install 'lightning_sep[tensorboard]'"
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_tables_and_curves_are_read_back_where_the_libraries_are(full_home, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = tmp_path / "runs.parquet"
    assert main(["export", "margins", "--parquet", str(table)]) == 0
    frame = pandas.read_parquet(table)
    (board,) = load_boards(full_home.path, ["margins"]).boards
    for row in board.rows:
        for score in row.scores:
            line = frame[frame.run_id == score.run.run_id].iloc[0]
            assert line["test/equal_error_rate"] == score.value


def test_learning_curves_are_read_back_where_the_library_is(full_home, tmp_path: Path) -> None:
    event = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    assert main(["export", "margins", "--tensorboard", str(tmp_path)]) == 0
    (board,) = load_boards(full_home.path, ["margins"]).boards
    for score in (score for row in board.rows for score in row.scores):
        [path] = (tmp_path / score.run.run_id).iterdir()
        content, curve = path.read_bytes(), {}
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            found = event.FromString(content[12 : 12 + size])
            for value in found.summary.value:
                curve[found.step] = value.simple_value
            content = content[16 + size :]
        assert curve == pytest.approx(score.run.history()["val/equal_error_rate"], rel=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["margins"], "export to what?"),
        (["margins", "--csv", "a.csv", "--checkpoints"], "--checkpoints: the weights go into"),
        (["nothing", "--csv", "a.csv"], "no board 'nothing'"),
        (["nothing", "--out", "a.zip"], "no board 'nothing'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
