"""A sweep that is asked otherwise: what changed is named, what is asked for is what runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.sweep import asked
from lightning_sep.sweep.definition import Definition, load_sweep
from lightning_sep.sweep.folder import create
from lightning_sep.sweep.grid import grid_sweep
from lightning_sep.sweep.names import sweep_folder
from lightning_sep.sweep.worker import WORK_LEFT

TWO = "yield f\"rate={trial.suggest_categorical('rate', [0.1, 0.2])}\""
WIDE = (
    "yield f\"rate={trial.suggest_float('rate', 0.0, 1.0)}\"\n"
    "    yield f\"size={trial.suggest_int('size', 1, 9)}\"\n"
    "    yield f\"kind={trial.suggest_categorical('kind', ['a', 'b'])}\""
)


def refusal(sandbox: Any, definition: Definition) -> list[str]:
    """The lines of what is said when a sweep is asked otherwise."""
    with pytest.raises(ConfigError, match="begun with another space") as raised:
        create(sandbox.home, definition)
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"settings": ["steps=4"]}, {"settings": ["steps=9"]}, "shared setting steps: 4 → 9"),
        ({"repeats": 2}, {}, "repeats: 2 → 1"),
        ({"finalists": 2}, {"finalists": 3}, "finalists: 2 → 3"),
        ({"direction": "maximize"}, {}, "direction: maximize → minimize"),
    ],
)
def test_what_a_file_asks_otherwise_is_named(
    sandbox: Any, before: dict[str, Any], now: dict[str, Any], told: str
) -> None:
    sandbox.begin(**before)
    assert told in refusal(sandbox, load_sweep(sandbox.write(**now)))


def test_a_changed_line_of_the_space_is_shown(sandbox: Any) -> None:
    sandbox.begin(body=TWO)
    told = refusal(sandbox, load_sweep(sandbox.write(body=TWO.replace("0.2]", "0.3]"))))
    assert len(told) == 2
    assert "[0.1, 0.2]" in told[0].partition(" → ")[0]
    assert "[0.1, 0.3]" in told[0].partition(" → ")[2]


def test_settings_left_out_are_named_with_the_command_of_before(sandbox: Any) -> None:
    path = sandbox.write()
    create(sandbox.home, load_sweep(path, ["steps=8", "fault=none"]))
    assert refusal(sandbox, load_sweep(path, ["steps=9"])) == [
        "given setting steps: 8 → 9",
        "given setting fault: none → (not given)",
        f"begun with: lightning-sep sweep {path} steps=8 fault=none --name quick --trials 5",
    ]
    kept = sandbox.home / "sweeps" / "quick" / "sweep.json"
    record = sandbox.record(kept)
    del record["command"]  # as one that was begun before commands were kept
    kept.write_text(json.dumps(record))
    assert refusal(sandbox, load_sweep(path, ["steps=9"]))[2:] == []


def test_an_entry_that_came_later_is_named(sandbox: Any, tmp_path: Path) -> None:
    (tmp_path / "rates").write_text("[0.1]")
    listed = f"eval(open('{tmp_path}/rates').read())"
    body = f"yield f\"rate={{trial.suggest_categorical('rate', {listed})}}\""
    sandbox.begin(body=body)
    (tmp_path / "rates").write_text("[0.1, 0.7]")
    assert refusal(sandbox, load_sweep(sandbox.write(body=body)))[0] == "new: rate=0.7"


def test_the_command_of_a_grid_begins_it_again(sandbox: Any) -> None:
    def grid(*extra: str) -> Definition:
        about = {"metric": "val/value", "direction": "minimize", "name": "rates"}
        return grid_sweep(["rate=0.1,0.2"], extra, finalists=1, **about)  # type: ignore[arg-type]

    create(sandbox.home, grid("steps=2"))
    [*_, told] = refusal(sandbox, grid("steps=3"))
    assert told == (
        "begun with: lightning-sep sweep --grid rate=0.1,0.2 steps=2 --name rates --finalists 1 "
        "--trials 2"
    )


def grid_of(sandbox: Any, monkeypatch: pytest.MonkeyPatch, *axes: str, **options: Any) -> None:
    monkeypatch.setattr(
        asked, "task_monitor", lambda overrides, config_dir: ("val/value", "minimize")
    )
    assert sandbox.launch(grid=True, overrides=["steps=2", *axes], name="rates", **options) == 0


@pytest.mark.parametrize(
    ("axes", "options", "count", "told"),
    [
        (["rate=0.1,0.2"], {"finalists": 0}, 2, "rates: 2 settings, 2 runs at most"),
        (["rate=0.1", "seed=0,1,2"], {}, 3, "rates: 1 setting on 3 seeds each, 3 runs at most"),
        (
            ["rate=0.1,0.2", "seed=0,1"],
            {"finalists": 1},
            9,
            "rates: 2 settings on 2 seeds each and the best 1 on 5 fresh seeds each, "
            "9 runs at most",
        ),
    ],
)
def test_a_grid_runs_what_was_said_and_no_more(
    sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    axes: Sequence[str],
    options: dict[str, Any],
    count: int,
    told: str,
) -> None:
    grid_of(sandbox, monkeypatch, *axes, dry_run=True, **options)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [told, f"    in {sandbox.home / 'sweeps' / 'rates'}, by Local"]
    assert not (sandbox.home / "sweeps").exists()
    grid_of(sandbox, monkeypatch, *axes, **options)
    said = capsys.readouterr().err.splitlines()
    assert told in said
    assert said.index(told) < next(n for n, line in enumerate(said) if "worker" in line)
    assert len(list(sandbox.home.glob("*/record.json"))) == count


def test_a_guess_is_tried_first_and_the_rest_of_it_is_drawn(sandbox: Any) -> None:
    path = sandbox.write(body=WIDE, trials=3, finalists=0)
    for _ in range(2):  # asked for twice, tried once
        assert sandbox.launch(path, workers=1, enqueue=["rate=0.25 kind=b"]) == 0
    first, *others = sandbox.open().trials()
    assert (first.params["rate"], first.params["kind"]) == (0.25, "b")
    assert 1 <= first.params["size"] <= 9
    assert len(others) == 2
    assert all(trial.params["rate"] != 0.25 for trial in others)
    assert first.datetime_complete < min(trial.datetime_start for trial in others)


@pytest.mark.parametrize(
    ("guess", "told"),
    [
        ("rat=0.1", "--enqueue rat=0.1: no parameter of the sweep. Known: rate, size, kind"),
        ("rate=1.5", "--enqueue rate=1.5: not in the sweep's space, which has 0.0 to 1.0"),
        ("size=2.5", "which has 1 to 9"),
        ("kind=c", "which has a, b"),
    ],
)
def test_a_guess_outside_the_space_is_refused(sandbox: Any, guess: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sandbox.launch(sandbox.write(body=WIDE), enqueue=["rate=0.5", guess])
    assert told in str(raised.value)
    assert not list(sandbox.home.glob("sweeps/*")), "what was refused does not wait"


def test_a_guess_that_is_refused_leaves_a_sweep_that_was_begun_as_it_is(sandbox: Any) -> None:
    path = sandbox.write(body=WIDE, trials=2, finalists=0)
    assert sandbox.launch(path, workers=1) == 0
    with pytest.raises(ConfigError, match="no parameter"):
        sandbox.launch(path, enqueue=["rat=0.5"])
    assert len(sandbox.open().trials()) == 2


def test_a_guess_where_all_is_tried_is_refused(sandbox: Any) -> None:
    with pytest.raises(ConfigError, match="each of the 5 points of quick is tried anyway"):
        sandbox.launch(sandbox.write(), enqueue=["rate=0.1"])


def test_a_sweep_saves_and_stops_when_its_time_is_up_and_goes_on(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sandbox.write(settings=["steps=40", "step_s=0.03"], trials=3, body=TWO)
    assert sandbox.launch(path, time_budget_s=0.8) == WORK_LEFT
    assert "the time is up" in capsys.readouterr().err
    assert not (sweep_folder(sandbox.home, "quick") / "trials.json").exists()
    assert sandbox.launch(path) == 0
    sandbox.check()
