"""Values per unit of a run: whose mean is its score, and what is refused as damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.statistics import crossed_interval
from lightning_sep.leaderboard.tables import interquartile_mean


def sequences(home, run_id: str, error: np.ndarray, energy: np.ndarray, **fields) -> None:
    """A run of autoregression with its sums of squares per sequence; a silent one is None."""
    kept = np.isfinite(energy)
    r2 = 1 - error[kept].sum() / energy[kept].sum()
    folder = home.write(
        run_id,
        task="autoregression",
        metrics={"test/r2": float(r2)},
        examples_file="test_examples.json",
        **fields,
    )
    lists = {
        "test/squared_error": [None if np.isnan(one) else one for one in error],
        "test/energy": [None if np.isnan(one) else one for one in energy],
        "test/index": list(range(len(error))),
        "test/r2": [0.0] * len(error),  # the sequences' own, whose mean is not the score
    }
    (folder / "test_examples.json").write_text(json.dumps(lists))


def only(home):
    (board,) = load_boards(home.path).boards
    return board


class TestRatio:
    def test_r2_speaks_of_new_sequences_by_its_influence_values(self, home) -> None:
        generator = np.random.default_rng(0)
        energy = generator.lognormal(0, 1, 30)
        energy[4] = np.nan
        table = []
        for seed in range(3):
            error = energy * generator.uniform(0.2, 0.6, 30)
            sequences(home, f"run{seed}", error, energy, seed=seed)
            e, t = np.delete(error, 4), np.delete(energy, 4)
            r2 = 1 - e.sum() / t.sum()
            table.append(r2 - (e - (1 - r2) * t) / t.mean())
        board = only(home)
        assert board.truth.startswith("new seeds and new test sequences")
        expected = crossed_interval(table)
        assert board.rows[0].interval.low == pytest.approx(expected.low)
        assert board.rows[0].interval.mean == pytest.approx(np.mean(table))
        assert board.rows[0].interquartile is None  # influence values are no scores of sequences

    def test_sums_that_do_not_make_the_score_take_the_run_off(self, home) -> None:
        energy = np.arange(1.0, 9.0)
        for seed in range(2):
            sequences(home, f"run{seed}", 0.5 * energy, energy, seed=seed)
        path = home.path / "run1" / "test_examples.json"
        lists = json.loads(path.read_text())
        lists["test/squared_error"][7] = 0.0
        path.write_text(json.dumps(lists))
        board = only(home)
        assert board.rows == []
        assert (
            "R² of its test examples is 0.611111, its record says 0.5"
            in (board.apart[0].reasons[1])
        )


class TestJackknife:
    def run(self, home, run_id: str, rate: float, without: list[float | None], **fields) -> None:
        folder = home.write(
            run_id,
            task="verification",
            metrics={"test/equal_error_rate": rate, "test/trial_speakers": len(without)},
            examples_file="test_examples.json",
            **fields,
        )
        names = [f"s{number}" for number in range(len(without))]
        lists = {"test/speaker": names, "test/equal_error_rate_without_speaker": without}
        (folder / "test_examples.json").write_text(json.dumps(lists))

    def test_error_rates_speak_of_new_speakers_by_pseudo_values(self, home) -> None:
        generator = np.random.default_rng(1)
        table = []
        for seed in range(3):
            rate = 0.2 + 0.01 * seed
            without = generator.normal(rate, 0.005, 12)
            self.run(home, f"run{seed}", rate, list(without), seed=seed)
            table.append(12 * rate - 11 * without)
        board = only(home)
        assert board.truth.startswith("new seeds and new test speakers")
        found, expected = board.rows[0].interval, crossed_interval(table)
        assert found.mean == pytest.approx(0.21)
        assert found.half_width == pytest.approx(expected.half_width)
        # around the mean of the rates themselves, not of the jackknife's corrected ones
        assert (found.low + found.high) / 2 == pytest.approx(0.21)
        assert abs(expected.mean - 0.21) > 1e-4

    def test_ten_speakers_are_enough(self, home) -> None:
        for seed in range(3):
            self.run(home, f"run{seed}", 0.2 + 0.01 * seed, [0.2] * 10, seed=seed)
        board = only(home)
        assert board.of_new_units
        assert not any("speakers say nothing" in note for note in board.notes)

    def test_below_ten_speakers_the_board_says_that_it_cannot_speak_of_new_ones(self, home) -> None:
        for seed in range(3):
            self.run(home, f"run{seed}", 0.2 + 0.01 * seed, [0.2] * 9, seed=seed)
        board = only(home)
        assert board.truth == "new seeds on this test set, with the same training data"
        assert any(
            note.startswith("9 test speakers say nothing of new ones") for note in board.notes
        )

    def test_a_rate_that_is_missing_takes_the_run_off(self, home) -> None:
        for seed in range(3):
            without = [None if seed == 1 else 0.2, *[0.2] * 11]
            self.run(home, f"run{seed}", 0.2, without, seed=seed)
        assert "seed 1 (run run1): no values per speaker, which the others have" in (
            only(home).apart[0].reasons
        )


class TestTorn:
    @pytest.mark.parametrize("end", [1, 5, -300])
    def test_a_file_that_lost_its_end_takes_its_run_off(self, home, end: int) -> None:
        for seed in range(2):
            values = np.random.default_rng(seed).normal(0, 1, 20)
            folder = home.separation(f"run{seed}", values, seed=seed)
        path = folder / "test_examples.json"
        lists = json.loads(path.read_text()) | {"test/classes": [["a", "b"]] * 20}
        text = json.dumps(lists)
        path.write_text(text[:-end])
        board = only(home)
        assert board.rows == []
        assert "seed 1 (run run1): test_examples.json cannot be read" in board.apart[0].reasons


class TestUnits:
    def test_other_data_are_never_paired_even_where_a_protocol_lets_them_in(
        self, home, tmp_path: Path, monkeypatch
    ) -> None:
        (tmp_path / "conf" / "board").mkdir(parents=True)
        (tmp_path / "conf" / "board" / "bounded_heads.yaml").write_text("equal: [code]\n")
        monkeypatch.chdir(tmp_path)
        generator = np.random.default_rng(3)
        for head, data in (("tanh", "1"), ("sine", "1"), ("cosine", "2")):
            more = {"head": head, "data": {"esc10": data}}
            home.separation(head, generator.normal(0, 1, 20), **more)
        board = only(home)
        assert [row.name for row in board.rows] == ["head=sine", "head=tanh"]
        assert "tested on other mixtures than the others" in board.apart[0].reasons[1]


class TestInterquartileMean:
    def test_is_that_of_scipy_where_quarters_are_whole(self) -> None:
        from scipy.stats import trim_mean

        scores = np.random.default_rng(2).normal(0, 1, 48)
        assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25))

    def test_counts_a_fraction_of_the_outer_ones(self) -> None:
        # of five, the middle two and a half: the second and the fourth by three quarters
        assert interquartile_mean(np.array([9.0, 1.0, 2.0, 4.0, -9.0])) == pytest.approx(
            (0.75 * 1 + 2 + 0.75 * 4) / 2.5
        )
