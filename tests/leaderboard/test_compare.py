"""Runs side by side, by value."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_sep.cli import main
from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.compare import compare_runs, comparison_json, comparison_text
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.statistics import paired_difference

SEPARATION = "test/si_sdr_improvement_db"


@pytest.fixture
def four(home):
    """Two heads with two seeds each, with other rates and threads, on the same examples."""
    generator = np.random.default_rng(4)
    difficulty = generator.normal(0, 3, 30)
    for head, level, rate in (("tanh", 5.0, 0.001), ("sine", 6.0, 0.002)):
        for seed in (0, 1):
            home.separation(
                f"{head}{seed}",
                level + difficulty + generator.normal(0, 1, 30),
                head=head,
                seed=seed,
                choices={"head": head} if seed == 0 else {},  # older records do not tell
                set={"optimizer.lr": rate},
                environment={"device": "cpu", "threads": 1 + seed},
            )
    return home


def test_entries_go_by_their_names(four) -> None:
    found = compare_runs(folders(four, "tanh0", "sine0"))
    assert found.settings == {"head": ["tanh", "sine"], "optimizer.lr": [0.001, 0.002]}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "+0.000"), (-0.0004, "−0.0004"), (0.00003, "+3e−05"), (-0.0012, "−0.001")],
)
def test_a_difference_that_is_not_0_does_not_look_like_it(value: float, shown: str) -> None:
    metric = Metric("test/r2", "R²", "", True)
    assert metric.number(value, signed=True) == shown
    assert metric.number(-0.0004) == "0.000"


def values(home, run_id: str) -> list[float]:
    text = (home.path / run_id / "test_examples.json").read_text()
    return json.loads(text)[SEPARATION]


def folders(home, *names: str) -> list[Path]:
    return [home.path / name for name in names]


def test_says_what_differs_and_nothing_else(four) -> None:
    found = compare_runs(folders(four, "tanh0", "sine1"))
    assert found.settings == {
        "head._target_": ["lightning_sep.heads.tanh.Tanh", "lightning_sep.heads.sine.Sine"],
        "optimizer.lr": [0.001, 0.002],
        "seed": [0, 1],
    }
    assert found.environment == {"threads": [1, 2]}
    assert found.metrics[SEPARATION] == [
        pytest.approx(np.mean(values(four, "tanh0"))),
        pytest.approx(np.mean(values(four, "sine1"))),
    ]


def test_two_runs_are_compared_example_by_example(four) -> None:
    (gap,) = compare_runs(folders(four, "tanh0", "sine0")).gaps
    from scipy.stats import ttest_rel

    test = ttest_rel(values(four, "sine0"), values(four, "tanh0"))
    low, high = test.confidence_interval(0.95)
    assert (gap.first, gap.second) == (["tanh0"], ["sine0"])
    assert gap.difference.low == pytest.approx(low)
    assert gap.difference.high == pytest.approx(high)
    assert gap.holds_for == "these two trained models on new test mixtures"


def test_settings_are_compared_seed_by_seed(four) -> None:
    (gap,) = compare_runs(folders(four, "tanh1", "sine0", "tanh0", "sine1")).gaps
    tables = [[values(four, f"{head}{seed}") for seed in (0, 1)] for head in ("sine", "tanh")]
    expected = paired_difference(*tables)
    assert gap.difference.mean == pytest.approx(expected.mean)
    assert gap.difference.low == pytest.approx(expected.low)
    assert gap.holds_for == "new seeds and new test mixtures"
    assert (gap.first, gap.second) == (["tanh0", "tanh1"], ["sine0", "sine1"])


def test_seeds_of_one_setting_are_compared_by_themselves(four) -> None:
    (gap,) = compare_runs(folders(four, "tanh0", "tanh1")).gaps
    assert (gap.first, gap.second) == (["tanh0"], ["tanh1"])


def test_without_the_same_examples_one_seed_says_nothing_of_others(four) -> None:
    four.separation("other", np.arange(10.0), head="cosine")
    found = compare_runs(folders(four, "tanh0", "other"))
    assert found.gaps[0].difference.low is None
    assert "one seed says nothing of others" in comparison_text(found)


def test_what_one_run_does_not_have_is_null(four) -> None:
    four.separation("other", np.arange(10.0), set={"loss.margin": 2.5})
    lines = comparison_text(compare_runs(folders(four, "tanh0", "other"))).splitlines()
    assert ["loss.margin", "null", "2.5"] in [line.split() for line in lines]


def test_runs_of_two_tasks_have_no_common_score(four) -> None:
    four.write("next", task="autoregression", metrics={"test/r2": 0.5})
    found = compare_runs(folders(four, "tanh0", "next"))
    assert (found.metric, found.gaps) == (None, [])
    assert comparison_json(found)["metrics"]["test/r2"] == [None, 0.5]


@pytest.mark.parametrize("names", [["tanh0"], ["tanh0", "tanh0"], ["tanh0", "sine0", "tanh0"]])
def test_each_run_is_given_once_and_there_are_two(four, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="two runs or more are compared, each given once"):
        compare_runs(folders(four, *names))


def test_a_record_that_cannot_be_used_is_refused_by_name(four) -> None:
    (four.path / "sine0" / "record.json").write_text("{")
    with pytest.raises(ConfigError, match="run sine0 cannot be compared: the record is torn"):
        compare_runs(folders(four, "tanh0", "sine0"))


def test_examples_that_do_not_make_the_score_are_refused_by_name(four) -> None:
    (four.path / "sine0" / "test_examples.json").write_text(json.dumps({SEPARATION: [1.0] * 30}))
    with pytest.raises(ConfigError, match="run sine0 cannot be compared: the mean of its test"):
        compare_runs(folders(four, "tanh0", "sine0"))


def test_the_command_prints_text_or_one_document(four, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(four.path))
    assert main(["compare", "tanh0", "sin", "--json"]) == 2  # two begin like this
    capsys.readouterr()
    assert main(["compare", "tanh0", "sine0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == comparison_json(compare_runs(folders(four, "tanh0", "sine0")))
    (gap,) = compare_runs(folders(four, "tanh0", "sine0")).gaps
    (told,) = printed["differences"]
    assert (told["of"], told["minus"], told["metric"]) == (["sine0"], ["tanh0"], SEPARATION)
    assert told["interval"] == [gap.difference.low, gap.difference.high]
    assert told["interval"][0] > 0
    assert (
        main(
            [
                "compare",
                *(f"{head}{seed}" for head in ("tanh", "sine") for seed in (0, 1)),
                "--json",
            ]
        )
        == 0
    )
    (told,) = json.loads(capsys.readouterr().out)["differences"]
    tables = [[values(four, f"{head}{seed}") for seed in (0, 1)] for head in ("sine", "tanh")]
    assert told["p_value"] == pytest.approx(paired_difference(*tables).p_value)
    assert main(["compare", "tanh0", "sine0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["optimizer.lr", "0.001", "0.002"] in [line.split() for line in lines]
    assert lines[-1].startswith("SI-SDR improvement: sine0 minus tanh0 is +")


def test_a_seed_that_was_trained_twice_is_not_two_seeds(four) -> None:
    again = values(four, "tanh0")
    four.separation("tanh0-again", np.array(again), head="tanh", seed=0)
    found = compare_runs(folders(four, "tanh0", "tanh0-again", "sine0"))
    assert [(gap.first, gap.second) for gap in found.gaps] == [
        (["tanh0"], ["tanh0-again"]),
        (["tanh0"], ["sine0"]),
    ]
    assert {gap.holds_for for gap in found.gaps} == {
        "these two trained models on new test mixtures"
    }
