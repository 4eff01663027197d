"""Boards of a known truth, through the command: what its intervals and ties promise, they keep."""

import json
from typing import Any

import numpy as np
import pytest

from lightning_sep.leaderboard.commands import leaderboard

pytestmark = pytest.mark.slow
SEPARATION = "test/si_sdr_improvement_db"
SEEDS = 5
INTERVALS, TIES = 1000, 200  # boards


@pytest.fixture
def boards(home, capsys):
    """Writes boards of ``tables [row, seed, example]`` and gives them back as the command has them.

    A row's validation score is its test score, so the choice of the best is as lucky as can be.
    """

    def ranked(tables: list[np.ndarray], **fields: Any) -> list[dict[str, Any]]:
        for number, rows in enumerate(tables):
            for place, row in enumerate(rows):
                for seed, values in enumerate(row):
                    run_id = f"{number:05d}-{place:02d}-{seed}"
                    score = float(values.mean())
                    monitor = {"name": "val/x", "mode": "max", "value": score, "epoch": 1}
                    record = {
                        "format": 1,
                        "run_id": run_id,
                        "config_hash": f"row{place}",
                        "state": "finished",
                        "purpose": "final",
                        "task": "separation",
                        "settings": {},
                        "overrides": [f"row={place}"],
                        "seed": 1000 + seed,
                        "sweep": f"board{number:05d}",
                        "metrics": {SEPARATION: score},
                        "monitor": monitor,
                        "data": {"simulated": "0"},
                        "examples_file": "test_examples.json",
                        **fields,
                    }
                    folder = home.path / run_id
                    folder.mkdir()
                    (folder / "record.json").write_text(json.dumps(record))
                    examples = {SEPARATION: [round(float(one), 5) for one in values]}
                    (folder / "test_examples.json").write_text(json.dumps(examples))
        assert leaderboard(None, home=home.path, as_json=True) == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["boards"]
        assert len(found) == len(tables)
        return found

    return ranked


def table(
    generator: np.random.Generator,
    *,
    rows: int,
    examples: int,
    correlation: float = 0.0,
    lead: float = 0.0,
    seed_sd: float = 0.3,
    own_sd: float = 0.8,
    rest_sd: float = 1.0,
) -> np.ndarray:
    """``[row, seed, example]``: difficulty of the examples (sd 3), seeds that rows share in part,
    a row's own taste for the examples, and the rest; the first row leads the others."""
    shared = generator.normal(0, seed_sd, (1, SEEDS, 1)) * np.sqrt(correlation)
    own = generator.normal(0, seed_sd, (rows, SEEDS, 1)) * np.sqrt(1 - correlation)
    made = generator.normal(0, 3, examples) + shared + own
    made = made + generator.normal(0, own_sd, (rows, 1, examples))
    made = made + generator.normal(0, rest_sd, (rows, SEEDS, examples))
    made[0] += lead
    return made


def in_pairs(generator: np.random.Generator, mixtures: int) -> np.ndarray:
    """Means over the two sources of each mixture, whose scores correlate by 0.74."""
    both = generator.normal(0, 5 * np.sqrt(0.74), (1, 1, mixtures, 1))
    alone = generator.normal(0, 5 * np.sqrt(0.26), (1, 1, mixtures, 2))
    seeds = generator.normal(0, 0.55, (1, SEEDS, 1, 1))
    return (both + alone + seeds + generator.normal(0, 2, (1, SEEDS, mixtures, 2))).mean(axis=-1)


@pytest.mark.parametrize("kind", ["independent", "paired"])
def test_intervals_cover_the_truth_in_95_of_100_boards(boards, kind: str) -> None:
    generator = np.random.default_rng(11)
    tables = [
        table(generator, rows=1, examples=120) if kind == "independent" else in_pairs(generator, 60)
        for _ in range(INTERVALS)
    ]
    hits = [
        low <= 0 <= high for one in boards(tables) for low, high in [one["rows"][0]["interval"]]
    ]
    assert 0.93 <= np.mean(hits) <= 0.97


def separated(found: list[dict[str, Any]]) -> float:
    """Share of boards on which any row is said to be behind another."""
    return float(np.mean([not all(row["may_be_best"] for row in one["rows"]) for one in found]))


@pytest.mark.parametrize(("rows", "correlation"), [(2, 0.9), (2, 0.99), (9, 0.9), (9, 0.0)])
def test_equal_rows_that_share_their_seeds_are_rarely_separated(
    boards, rows: int, correlation: float
) -> None:
    generator = np.random.default_rng(12)
    tables = [
        table(generator, rows=rows, examples=120, correlation=correlation) for _ in range(TIES)
    ]
    found = boards(tables)
    assert separated(found) <= 0.07
    ranked = [all(row["rank_low"] == 1 for row in one["rows"]) for one in found]
    assert 1 - np.mean(ranked) <= 0.07


def test_equal_rows_whose_runs_collapse_now_and_then_are_rarely_separated(boards) -> None:
    generator = np.random.default_rng(15)
    tables = [
        5 + table(generator, rows=5, examples=120) - 20 * (generator.random((5, SEEDS, 1)) < 0.2)
        for _ in range(TIES)
    ]
    assert separated(boards(tables)) <= 0.07


def test_rows_a_tenth_apart_are_told_apart_where_every_seed_agrees(boards) -> None:
    generator = np.random.default_rng(13)
    fine = {"correlation": 0.99, "own_sd": 0.1, "rest_sd": 0.3, "lead": 0.1}
    tables = [table(generator, rows=2, examples=500, **fine) for _ in range(TIES)]
    found = boards(tables)
    told = [
        one["rows"][0]["settings"] == {"row": "0"} and not one["rows"][1]["may_be_best"]
        for one in found
    ]
    assert np.mean(told) >= 0.9


def test_a_clear_leader_leaves_few_that_may_be_best(boards) -> None:
    generator = np.random.default_rng(14)
    tables = [
        table(generator, rows=9, examples=500, correlation=0.9, lead=0.6) for _ in range(TIES)
    ]
    found = boards(tables)
    may = [[row["settings"]["row"] for row in one["rows"] if row["may_be_best"]] for one in found]
    assert np.mean([len(one) for one in may]) <= 3
    assert np.mean(["0" in one for one in may]) >= 0.95
    # the column of differences holds the true one in every row at once
    holds = [
        all(
            low <= gap <= high
            for row in one["rows"][1:]
            for low, high in [row["difference"]["interval"]]
            for gap in [_gap(row, one["rows"][0])]
        )
        for one in found
    ]
    assert np.mean(holds) >= 0.93


def _gap(row: dict[str, Any], best: dict[str, Any]) -> float:
    return 0.6 * ((row["settings"]["row"] == "0") - (best["settings"]["row"] == "0"))
