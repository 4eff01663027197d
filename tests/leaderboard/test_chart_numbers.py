"""The numbers that a page's charts are drawn from, against the records they come from."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from scipy.stats import f_oneway

from lightning_sep.leaderboard import charts
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.charts import importance
from lightning_sep.leaderboard.page import page

SEPARATION, VALIDATION = "test/si_sdr_improvement_db", "val/si_sdr_improvement_db"


def drawn(home: Any) -> dict[str, Any]:
    (found,) = json.loads(
        re.search(r'id="data">(.*?)</script>', page(load_boards(home.path)), re.DOTALL)[1]
    )
    return found


def searched(home: Any, trial: int, value: float | None, **more: Any) -> None:
    state = "failed" if value is None else "finished"
    monitor = {} if value is None else {"name": VALIDATION, "mode": "max", "value": value}
    about = {"state": state, "monitor": monitor, "started": f"2026-02-01T00:{trial:02d}:00"} | more
    home.write(f"s{trial:03d}{about.get('seed', 0)}", purpose="search", trial=trial, **about)


def explained(groups: list[list[float]]) -> float:
    """Epsilon squared by way of scipy's F."""
    count, kinds = sum(map(len, groups)), len(groups)
    f = f_oneway(*groups).statistic
    return (kinds - 1) * (f - 1) / ((kinds - 1) * f + count - kinds)


def test_how_much_a_setting_explains_is_the_share_of_an_analysis_of_variance(home) -> None:
    generator = np.random.default_rng(5)
    rows = []
    for trial in range(23):
        head = ("tanh", "sine", "cosine")[trial % 3]
        rate = float(f"{10 ** generator.uniform(-4, -2):.3g}")
        value = {"tanh": 5.0, "sine": 6.5, "cosine": 4.0}[head] + 2 * math.log10(rate)
        value += float(generator.normal(0, 0.4))
        rows.append((head, rate, value))
        overrides = [f"head={head}", f"optimizer.lr={rate}"]
        searched(home, trial, value, config_hash=str(trial), overrides=overrides)
    lost = {"config_hash": "lost", "overrides": ["head=tanh", "optimizer.lr=0.1"]}
    searched(home, 23, None, **lost)
    (board,) = load_boards(home.path).boards
    found = importance(board)
    by_head = [[v for name, _, v in rows if name == head] for head in ("tanh", "sine", "cosine")]
    ordered = [value for _, _, value in sorted(rows, key=lambda row: row[1])]
    fifths = [ordered[:5], ordered[5:10], ordered[10:14], ordered[14:19], ordered[19:]]
    expected = {"head": explained(by_head), "optimizer.lr": explained(fifths)}
    assert dict(found) == pytest.approx(expected)
    assert [name for name, _ in found] == sorted(expected, key=expected.__getitem__, reverse=True)
    assert min(expected.values()) > 0.05
    assert drawn(home)["weights"] == [
        [name, pytest.approx(share, rel=1e-5)] for name, share in found
    ]
    shares = re.findall(r"<li>([\w.]+) <b>(\d+) %</b>", page(load_boards(home.path)))
    assert shares == [(name, f"{100 * share:.0f}") for name, share in found]


def test_a_setting_that_explains_nothing_has_no_share_below_0(home) -> None:
    for trial, value in enumerate((1.0, 2.0, 3.0, 3.0, 2.0, 1.0)):
        head = "tanh" if trial < 3 else "sine"
        searched(home, trial, value, config_hash=head, overrides=[f"head={head}"])
    assert explained([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]) < 0
    (board,) = load_boards(home.path).boards
    assert importance(board) == [("head", 0.0)]


def test_a_trial_is_the_mean_of_its_repeats_that_finished(home) -> None:
    for seed, value in enumerate((3.0, 4.0, 8.0)):
        searched(home, 2, value, seed=seed, config_hash="two", overrides=["head=tanh"])
    for seed, (value, state) in enumerate(((1.0, "pruned"), (6.0, "finished"))):
        about = {"state": state, "config_hash": "five", "overrides": ["head=sine"]}
        searched(home, 5, value, seed=seed, **about)
    searched(home, 6, 2.0, state="pruned", config_hash="six", overrides=["head=cosine"])
    searched(home, 7, None, config_hash="seven", overrides=["head=linear"])
    assert [one[:3] for one in drawn(home)["trials"]] == [
        [2, "finished", 5.0],
        [5, "finished", 6.0],
        [6, "pruned", 2.0],
        [7, "failed", None],
    ]
    (board,) = load_boards(home.path).boards
    told = {one.name: (one.state, one.validation) for one in board.tried}
    assert told == {
        "head=tanh": ("finished", 5.0),
        "head=sine": ("pruned", None),  # one of its repeats was
        "head=cosine": ("pruned", None),
        "head=linear": ("failed", None),
    }


def test_of_a_long_curve_every_kth_point_and_the_last_are_drawn(home) -> None:
    folder = home.separation("a", np.arange(9.0))
    lines = [{"epoch": epoch, VALIDATION: epoch / 8, "z": -epoch} for epoch in range(140)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = drawn(home)["curves"]
    assert found["every"] == 3
    epochs = [*range(0, 139, 3), 139]
    first, second = found["metrics"]
    assert first == {
        "name": VALIDATION,
        "label": f"{VALIDATION} (dB)",
        "lines": [[0, 0, epochs, [epoch / 8 for epoch in epochs]]],
    }
    assert second["lines"] == [[0, 0, epochs, [-epoch for epoch in epochs]]]
    assert "Of long curves every 3th point, and the last." in page(load_boards(home.path))


def test_curves_that_find_no_room_are_counted(home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.separation("a", np.arange(9.0))
    lines = [{"epoch": epoch, VALIDATION: epoch, "a": 1, "b": 2} for epoch in range(5)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    for numbers, left in ((30, []), (29, ["b"]), (10, ["a", "b"]), (1, ["a", "b"])):
        monkeypatch.setattr(charts, "CURVE_NUMBERS", numbers)
        assert drawn(home)["curves"]["leftOut"] == left
    assert "No room for 2 more metrics" in page(load_boards(home.path))


def test_of_many_examples_every_kth_is_drawn_with_its_mean_over_seeds(home) -> None:
    tables = {}
    for place, head in enumerate(("tanh", "sine")):
        generator = np.random.default_rng(place)
        tables[head] = np.round(generator.normal(place, 1, (2, 900)), 3)
        for seed, values in enumerate(tables[head]):
            monitor = {"name": VALIDATION, "mode": "max", "value": -place}
            home.separation(f"{head}{seed}", values, head=head, seed=seed, monitor=monitor)
    found = drawn(home)["examples"]
    assert (found["every"], found["names"]) == (3, [str(at) for at in range(0, 900, 3)])
    for (place, scores), head in zip(found["scores"], ("tanh", "sine"), strict=True):
        assert place == ["tanh", "sine"].index(head)
        assert scores == pytest.approx(tables[head].mean(axis=0)[::3], rel=1e-5)


def test_the_examples_of_an_error_rate_are_pairs_of_speakers_in_per_cent(home) -> None:
    key = "test/error_rate_at_val_threshold_of_pair"
    for place, head in enumerate(("tanh", "sine")):
        for seed in range(2):
            folder = home.write(
                f"{head}{seed}",
                task="verification",
                head=head,
                seed=seed,
                metrics={"test/equal_error_rate": 0.2},
                examples_file="test_examples.json",
            )
            rates = [0.1 + 0.2 * seed, 0.5 * place, None]
            lists = {"test/speakers": [["a", "b"], ["a", "a"], ["b", "b"]], key: rates}
            (folder / "test_examples.json").write_text(json.dumps(lists))
    found = drawn(home)["examples"]
    assert found["names"] == ["a and b", "a and a"]
    assert [scores for _, scores in found["scores"]] == [
        pytest.approx([20.0, 50.0 * place]) for place in (1, 0)
    ]


def test_the_timeline_has_who_ran_when_and_how_it_ended(home) -> None:
    home.separation("final", np.arange(5.0), head="tanh", seed=7)
    times = {"started": "2026-03-01T09:00:00+00:00", "finished": "2026-03-01T09:00:30+00:00"}
    searched(home, 4, None, **times)
    wrong = {"started": "2026-03-01T09:00:00+00:00", "finished": "2026-03-01T08:00:00+00:00"}
    searched(home, 5, 1.0, **wrong)
    nine = 1772355600.0
    assert drawn(home)["runs"] == [
        [None, 4, 0, "search", "failed", nine, 30.0],
        [0, None, 7, "final", "finished", nine + 3600, 120.0],
    ]


def test_trivial_predictors_are_drawn_in_the_shown_unit(full_home) -> None:
    data = json.loads(
        re.search(r'id="data">(.*?)</script>', page(load_boards(full_home.path)), re.DOTALL)[1]
    )
    assert [one["baselines"] for one in data] == [
        [["Mixture as estimate", 0.0]],
        [["Chance", 50.0]],
        [["Zero predictor", 0.0], ["Repeat the last frame", 0.31]],
    ]
    assert [one["hard"] for one in data] == [5, 95, 5]
    assert [one["monitor"]["higher"] for one in data] == [True, False, True]


def test_a_monitored_loss_is_no_percentage(home) -> None:
    searched(home, 0, 0.3, task="verification", monitor={"name": "val/loss", "value": 0.3})
    assert [one[:3] for one in drawn(home)["trials"]] == [[0, "finished", 0.3]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_who_is_far_behind_gives_no_chart_its_scale(home, sign: float) -> None:
    name, mode = ("test/r2", "max") if sign > 0 else ("test/equal_error_rate", "min")
    task = "autoregression" if sign > 0 else "verification"
    for place, level in enumerate((0.30, 0.29, 0.27, 0.3 - sign * 0.28)):
        for seed in range(2):
            home.write(
                f"r{place}{seed}",
                task=task,
                config_hash=f"c{place}",
                overrides=[f"head.temperature={place}"],
                seed=seed,
                metrics={name: level + sign * 0.002 * seed},
                monitor={"name": name.replace("test", "val"), "mode": mode, "value": level},
            )
    settings = drawn(home)["settings"]
    far = {one["name"]: one.get("far", 0) for one in settings}
    assert far == {"temperature=0": 0, "temperature=1": 0, "temperature=2": 0, "temperature=3": 1}


def test_examples_of_other_data_are_not_set_against_each_other(home) -> None:
    for place, data in enumerate(("a", "a", "b")):
        values = np.arange(4.0) + place
        about = {"head": f"h{place}", "data": {"set": data}}
        home.separation(f"r{place}", values, overrides=[f"head=h{place}"], **about)
    board = drawn(home)
    assert [one["kind"] for one in board["settings"]] == ["ranked", "ranked", "apart"]
    assert sorted(place for place, _ in board["examples"]["scores"]) == [0, 1]


def test_a_run_that_names_no_trial_is_one_of_its_own(home) -> None:
    for trial, value in ((1, 3.0), (0, 1.0)):
        searched(home, trial, value, config_hash=str(trial))
    about = {"name": VALIDATION, "mode": "max", "value": 8.0}
    home.write("own", purpose="search", config_hash="own", started="2026-01-31", monitor=about)
    assert [(number, value) for number, _, value, *_ in drawn(home)["trials"]] == [
        *((0, 1.0), (1, 3.0), (2, 8.0))
    ]
