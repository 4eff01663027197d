"""Records in, ranked rows out."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.board import NEW_SEEDS, Board, load_boards
from lightning_sep.leaderboard.document import as_json, as_text
from lightning_sep.leaderboard.page import page
from lightning_sep.leaderboard.ranking import Scores, compare, compare_above
from lightning_sep.leaderboard.runs import read_run
from lightning_sep.leaderboard.statistics import (
    crossed_interval,
    paired_difference,
    paired_seed_difference,
    seed_interval,
)
from lightning_sep.leaderboard.table import plain
from lightning_sep.leaderboard.words import headline, summary_line, tried_text
from lightning_sep.record import write_record
from lightning_sep.run_id import config_hash
from lightning_sep.settings import compose

SEPARATION = "test/si_sdr_improvement_db"


def only(home, name: str | None = None) -> Board:
    boards = load_boards(home.path, None if name is None else [name]).boards
    assert len(boards) == 1
    return boards[0]


def values(level: float, seed: int) -> np.ndarray:
    return level + np.random.default_rng(seed).normal(0, 1, 50)


class TestRows:
    def test_mean_and_interval_are_those_of_seeds_and_examples(self, home) -> None:
        scores = [values(8.0, seed) for seed in range(4)]
        for seed, score in enumerate(scores):
            home.separation(f"run{seed}", score, seed=seed)
        (row,) = only(home).rows
        expected = crossed_interval(np.stack(scores))
        assert row.interval.mean == pytest.approx(np.mean(scores))
        assert row.interval.low == pytest.approx(expected.low)
        assert row.interval.high == pytest.approx(expected.high)

    def test_seed_interval_is_students(self, home) -> None:
        scores = [values(8.0, seed) for seed in range(4)]
        for seed, score in enumerate(scores):
            home.separation(f"run{seed}", score, seed=seed)
        (row,) = only(home).rows
        expected = seed_interval([score.mean() for score in scores])
        assert row.seed_interval.low == pytest.approx(expected.low)

    def test_search_runs_never_reach_the_table(self, home) -> None:
        home.separation("final", values(5.0, 0))
        monitor = {"name": "val/x", "mode": "max", "value": 99.0, "epoch": 1}
        home.write("search", purpose="search", trial=0, metrics={SEPARATION: 99.0}, monitor=monitor)
        board = only(home)
        assert [score.run.run_id for score in board.rows[0].scores] == ["final"]
        assert [trial.value for trial in board.search.trials] == [99.0]

    def test_a_run_that_was_there_before_the_sweep_counts_as_its_final(self, home) -> None:
        home.separation("made", values(5.0, 0), seed=1000)
        home.separation("found", values(5.0, 1), seed=1001, purpose="single", sweep=None)
        finals = home.path / "sweeps" / "bounded_heads" / "finals"
        finals.mkdir(parents=True)
        for run_id in ("made", "found"):
            (finals / f"{run_id}.json").write_text(json.dumps({"run_id": run_id, "trial": 0}))
        (row,) = only(home, "bounded_heads").rows
        assert sorted(score.run.run_id for score in row.scores) == ["found", "made"]

    def test_a_row_with_a_failed_seed_is_listed_apart_with_the_reason(self, full_home) -> None:
        board = load_boards(full_home.path, ["bounded_heads"]).boards[0]
        (one,) = board.apart
        assert one.row.name == "head=sine optimizer.lr=0.001"
        assert one.reasons == [
            "4 of 5 fresh seeds finished",
            "seed 104 failed: loss of 3 of 16 examples is not finite at step 812",
        ]

    def test_a_score_that_is_not_finite_is_a_failure(self, home) -> None:
        home.write("good", seed=0, metrics={SEPARATION: 4.0})
        home.write("bad", seed=1, metrics={SEPARATION: float("nan")})
        (one,) = only(home).apart
        assert [run.run_id for run in one.row.failed] == ["bad"]

    @pytest.mark.parametrize("lost", [1, 3, 4])
    def test_failing_never_helps(self, home, lost: int) -> None:
        """The worst seeds of the lower of two rows fail: it must not come out on top."""
        for seed in range(5):
            home.separation(f"a{seed}", values(5.0, seed), head="tanh", seed=seed)
            level = 2.0 + 2 * seed
            more = {"head": "sine", "seed": seed}
            if seed < lost:
                home.write(f"b{seed}", state="failed", error="diverged", monitor={}, **more)
            else:
                home.separation(f"b{seed}", values(level, seed), **more)
        board = only(home)
        assert [row.name for row in board.rows] == ["head=tanh"]
        assert [one.row.name for one in board.apart] == ["head=sine"]
        assert board.best.name == "head=tanh"

    def test_a_single_setting_with_a_failed_seed_is_not_ranked_either(self, home) -> None:
        more = {"sweep": None, "purpose": "single"}
        home.write("a", seed=0, metrics={SEPARATION: 9.0}, **more)
        home.write("b", seed=1, state="failed", error="diverged", monitor={}, **more)
        home.write("c", head="sine", seed=0, metrics={SEPARATION: 1.0}, **more)
        board = only(home, "single")
        assert [row.name for row in board.rows] == ["head=sine"]
        assert board.apart[0].reasons == ["1 of 2 seeds finished", "seed 1 failed: diverged"]

    def test_a_sweep_says_how_many_seeds_a_row_owes(self, home) -> None:
        """All rows lack the fifth seed: only the sweep's own file can tell."""
        for head in ("tanh", "sine"):
            for seed in range(4):
                home.separation(f"{head}{seed}", values(1.0, seed), head=head, seed=seed)
        assert len(only(home).rows) == 2
        folder = home.path / "sweeps" / "bounded_heads"
        folder.mkdir(parents=True)
        asks = {"final_seeds": 5, "question": "Which?"}
        (folder / "sweep.json").write_text(json.dumps({"asks": asks}))
        board = only(home, "bounded_heads")
        assert board.rows == []
        assert [one.reasons for one in board.apart] == [["4 of 5 fresh seeds finished"]] * 2
        assert "Nothing is ranked" in headline(board)

    def test_the_best_is_chosen_on_validation_and_stands_first(self, home) -> None:
        chosen, flattered = ("sine", 2.0, 7.0), ("tanh", 2.1, 6.0)
        for head, level, validation in (chosen, flattered):
            for seed in range(3):
                monitor = {"name": "val/x", "mode": "max", "value": validation, "epoch": 1}
                scores = values(level, seed)
                home.separation(f"{head}{seed}", scores, head=head, seed=seed, monitor=monitor)
        board = only(home)
        assert [row.name for row in board.rows] == ["head=sine", "head=tanh"]
        assert headline(board).startswith("Best of 2 settings tried: head=sine")
        found = as_json(load_boards(home.path))["boards"][0]
        assert found["best"]["name"] == "head=sine"
        assert [row["best"] for row in found["rows"]] == [True, False]
        assert [row["validation"] for row in found["rows"]] == [7.0, 6.0]

    def test_a_lower_validation_score_is_better_where_it_is_an_error(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        assert board.best.validation == min(row.validation for row in board.rows)

    def test_a_row_with_a_run_that_lacks_its_validation_score_is_not_chosen(self, home) -> None:
        for head, seen in (("sine", (9.0, None)), ("tanh", (1.0, 1.0))):
            for seed, value in enumerate(seen):
                monitor = {"name": "val/x", "mode": "max", "value": value, "epoch": 1}
                more = {"head": head, "seed": seed, "monitor": monitor}
                home.write(f"{head}{seed}", metrics={SEPARATION: 1.0}, **more)
        board = only(home)
        assert board.best.name == "head=tanh"
        assert [row.validation for row in board.rows] == [1.0, None]

    def test_equal_validation_goes_to_the_earlier_trial(self, home) -> None:
        for head, trial in (("sine", 4), ("tanh", 3)):
            home.write(head, head=head, trial=trial, metrics={SEPARATION: 1.0})
        assert only(home).best.name == "head=tanh"

    def test_a_row_of_failures_has_no_rank(self, home) -> None:
        home.write("a", head="sine", state="failed", error="out of memory", monitor={})
        home.write("b", head="tanh", metrics={SEPARATION: 1.0})
        (last,) = only(home).apart
        assert (last.row.name, last.row.rank_text, last.row.interval) == ("head=sine", "–", None)

    def test_a_seed_that_ran_twice_counts_once_with_the_newest(self, home) -> None:
        home.write("old", metrics={SEPARATION: 1.0}, finished="2026-01-01T00:00:00+00:00")
        home.write("new", metrics={SEPARATION: 2.0}, finished="2026-02-01T00:00:00+00:00")
        (row,) = only(home).rows
        assert [score.value for score in row.scores] == [2.0]

    def test_a_failure_takes_no_result_away_that_its_seed_has(self, home) -> None:
        home.write("good", metrics={SEPARATION: 1.0}, finished="2026-01-01T00:00:00+00:00")
        home.write("bad", state="failed", error="", finished="2026-02-01T00:00:00+00:00")
        (row,) = only(home).rows
        assert ([score.value for score in row.scores], row.failed) == ([1.0], [])

    def test_lower_is_better_for_error_rates(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        means = [row.interval.mean for row in board.rows]
        assert means == sorted(means)

    def test_percentiles_are_means_over_seeds(self, home) -> None:
        scores = [values(8.0, seed) for seed in range(3)]
        for seed, score in enumerate(scores):
            home.separation(f"run{seed}", score, seed=seed)
        (row,) = only(home).rows
        expected = np.mean([np.percentile(score, 5) for score in scores])
        assert row.percentiles[5].mean == pytest.approx(expected)
        by_hand = seed_interval([np.percentile(score, 5) for score in scores])
        assert row.percentiles[5].low == pytest.approx(by_hand.low)

    def test_the_middle_half_is_the_mean_without_the_outer_quarters(self, home) -> None:
        score = np.arange(48, dtype=float)
        score[0], score[-1] = -1e3, 1e6  # what a mean would follow
        home.separation("run", score)
        (row,) = only(home).rows
        assert row.interquartile.mean == pytest.approx(np.arange(12, 36).mean())

    def test_a_task_of_someone_else_is_ranked_by_what_it_monitors(self, home) -> None:
        monitor = {"name": "val/pesq", "mode": "min", "value": 1.0, "epoch": 0}
        for head, score in (("tanh", 2.0), ("sine", 1.0)):
            metrics = {"test/pesq": score}
            home.write(head, task="denoising", head=head, metrics=metrics, monitor=monitor)
        assert [row.name for row in only(home).rows] == ["head=sine", "head=tanh"]

    def test_so_is_one_where_higher_is_better(self, home) -> None:
        monitor = {"name": "val/pesq", "mode": "max", "value": 1.0, "epoch": 0}
        for head, score in (("tanh", 2.0), ("sine", 1.0)):
            metrics = {"test/pesq": score}
            home.write(head, task="denoising", head=head, metrics=metrics, monitor=monitor)
        board = only(home)
        assert [row.standing.place for row in board.rows] == [2, 1]
        assert (board.metric.label, board.metric.higher_is_better) == ("pesq", True)

    def test_rows_listed_apart_stand_by_their_score_and_without_one_last(self, home) -> None:
        for task, key, order in (
            ("separation", SEPARATION, ["b", "a", "c"]),
            ("verification", "test/equal_error_rate", ["a", "b", "c"]),
        ):
            for head, score in (("a", 0.1), ("c", None), ("b", 0.3)):
                more = {"task": task, "sweep": task, "head": head}
                if score is not None:
                    home.write(f"{task}{head}", metrics={key: score}, seed=0, **more)
                home.write(f"{task}{head}1", state="failed", seed=1, monitor={}, **more)
            board = only(home, task)
            assert [one.row.name for one in board.apart] == [f"head={head}" for head in order]

    def test_without_validation_scores_the_best_is_that_of_the_test_and_it_is_said(
        self, home
    ) -> None:
        for head, score in (("sine", 1.0), ("tanh", 2.0)):
            home.write(head, head=head, metrics={SEPARATION: score}, monitor={})
        board = only(home)
        assert board.best.name == "head=tanh"
        assert board.chosen_by == "mean test score, for want of validation scores"
        assert as_json(load_boards(home.path))["boards"][0]["best"]["chosen_by"] == board.chosen_by


class TestTruth:
    def test_per_example_values_speak_of_new_examples(self, home) -> None:
        home.separation("a", values(1.0, 0), seed=0)
        home.separation("b", values(1.0, 1), seed=1)
        board = only(home)
        assert board.truth == "new seeds and new test mixtures, with the same training data"
        assert board.of_new_units

    def test_without_them_only_of_new_seeds(self, full_home) -> None:
        assert load_boards(full_home.path, ["margins"]).boards[0].truth == NEW_SEEDS

    def test_silent_examples_are_left_out(self, home) -> None:
        scores = [values(6.0, seed) for seed in range(3)]
        for seed, score in enumerate(scores):
            folder = home.separation(f"run{seed}", score, seed=seed)
            listed = [None if place == 7 else v for place, v in enumerate(score)]
            (folder / "test_examples.json").write_text(json.dumps({SEPARATION: listed}))
            record = json.loads((folder / "record.json").read_text())
            record["metrics"][SEPARATION] = float(np.delete(score, 7).mean())
            (folder / "record.json").write_text(json.dumps(record))
        (row,) = only(home).rows
        expected = crossed_interval(np.delete(np.stack(scores), 7, axis=1))
        assert row.interval.half_width == pytest.approx(expected.half_width)

    def test_a_record_cannot_point_out_of_its_folder(self, home, tmp_path: Path) -> None:
        (tmp_path / "runs" / "secret.json").write_text(json.dumps({SEPARATION: [4.0, 4.0]}))
        for seed in range(2):
            metrics = {SEPARATION: 4.0}
            home.write(f"r{seed}", seed=seed, metrics=metrics, examples_file="../secret.json")
        (one,) = only(home).apart
        assert "seed 0 (run r0): ../secret.json cannot be read" in one.reasons


class TestTies:
    def test_a_clear_gap_is_a_rank_of_its_own(self, full_home) -> None:
        board = load_boards(full_home.path, ["bounded_heads"]).boards[0]
        assert board.rows[-1].rank_text == "4"

    def test_settings_of_the_same_level_tie(self, full_home) -> None:
        board = load_boards(full_home.path, ["bounded_heads"]).boards[0]
        best = {row.name for row in board.may_be_best}
        assert {
            "head=clip_at_eval optimizer.lr=0.001",
            "head=straight_through_clip optimizer.lr=0.001",
        } <= best

    def test_the_headline_names_best_interval_and_ties(self, full_home) -> None:
        words = headline(load_boards(full_home.path, ["bounded_heads"]).boards[0])
        assert words.startswith(
            "Best of 33 settings tried: head=clip_at_eval optimizer.lr=0.001, SI-SDR improvement "
            "8.84 dB (95 % interval 8.28"
        )
        assert "Tied with it (no distinguishable difference): head=straight_through_clip" in words

    def alike(self, home, *, shared: bool, rows: int = 2) -> list[np.ndarray]:
        """Rows .1 apart under seeds that move all of them by 1; tables [seed, example]."""
        generator = np.random.default_rng(8)
        difficulty, moved = generator.normal(0, 3, 60), generator.normal(0, 1, 5)
        tables = []
        for place in range(rows):
            noise = generator.normal(0, 0.05, (5, 60))
            table = 5.0 - 0.1 * place + difficulty + moved[:, None] + noise
            for seed, scores in enumerate(table):
                monitor = {"name": "val/x", "mode": "max", "value": -place, "epoch": 1}
                head, number = f"h{place}", seed if shared else 100 * place + seed
                more = {"head": head, "seed": number, "monitor": monitor}
                home.separation(f"{head}-{seed}", scores, **more)
            tables.append(table)
        return tables

    def test_rows_that_share_their_seeds_are_paired_by_them(self, home) -> None:
        self.alike(home, shared=True)
        assert [row.may_be_best for row in only(home).rows] == [True, False]
        assert [row.rank_text for row in only(home).rows] == ["1", "2"]

    def test_rows_with_seeds_of_their_own_are_not(self, home) -> None:
        self.alike(home, shared=False)
        assert [row.may_be_best for row in only(home).rows] == [True, True]
        assert [row.rank_text for row in only(home).rows] == ["1–2", "1–2"]

    def test_differences_to_the_best_hold_all_together(self, home) -> None:
        tables = self.alike(home, shared=True, rows=3)
        rows = only(home).rows
        for row, table in zip(rows[1:], tables[1:], strict=True):
            expected = paired_difference(table, tables[0], confidence=1 - 0.05 / 2)
            assert row.standing.difference.mean == pytest.approx(expected.mean)
            assert row.standing.difference.low == pytest.approx(expected.low)
            assert row.standing.difference.high == pytest.approx(expected.high)

    def test_many_rows_ask_more_of_each_of_them(self, home) -> None:
        """What is behind at 5 % alone, and not at 5 % over seven comparisons, may be best."""
        generator = np.random.default_rng(10)
        noise = generator.normal(0, 1, (8, 5, 40))
        noise -= noise.mean(axis=(1, 2), keepdims=True)
        p_value = 1.0
        for gap in np.arange(0.1, 1.0, 0.01):  # the first gap that one comparison would find
            p_value = paired_difference(noise[1] - gap, noise[0]).p_value
            if p_value < 0.05:
                break
        assert 0.05 / 7 < p_value < 0.05
        for place in range(8):
            for seed in range(5):
                monitor = {"name": "val/x", "mode": "max", "value": -place, "epoch": 1}
                more = {"head": f"h{place}", "seed": seed, "monitor": monitor}
                scores = 5.0 + noise[place, seed] - (gap if place else 0.0)
                home.separation(f"h{place}-{seed}", scores, **more)
        rows = {row.name: row for row in only(home).rows}
        assert rows["head=h1"].may_be_best
        assert rows["head=h1"].standing.difference.high > 0

    def test_a_row_that_is_taken_off_widens_and_narrows_no_difference(self, home) -> None:
        self.alike(home, shared=True, rows=3)
        before = only(home).rows[1].standing.difference
        (home.path / "h2-0" / "record.json").unlink()
        board = only(home)
        assert [one.row.name for one in board.apart] == ["head=h2"]
        assert board.rows[1].standing.difference == before

    def test_a_long_board_shows_places_in_place_of_ranks(self, home) -> None:
        for place in range(31):
            home.write(f"r{place}", head=f"h{place:02d}", metrics={SEPARATION: 31.0 - place})
        rows = only(home).rows
        assert all(row.ranks is None for row in rows)
        assert {row.name: row.rank_text for row in rows}["head=h04"] == "5."

    def test_whoever_leads_on_test_decides_too_who_may_be_best(self, home) -> None:
        """The chosen one is in the middle: the last row is behind the leader, if not behind it."""
        generator = np.random.default_rng(9)
        difficulty = generator.normal(0, 3, 60)
        for head, level, validation in (("a", 5.0, 1.0), ("b", 4.0, 2.0), ("c", 3.9, 0.0)):
            for seed in range(5):
                scores = level + difficulty + generator.normal(0, 0.4, 60)
                monitor = {"name": "val/x", "mode": "max", "value": validation, "epoch": 1}
                more = {"head": head, "seed": seed, "monitor": monitor}
                home.separation(f"{head}{seed}", scores, **more)
        board = only(home)
        assert board.best.name == "head=b"
        assert [row.name for row in board.may_be_best] == ["head=a"]
        assert "on the test set it is distinguishably behind head=a" in headline(board)

    @pytest.mark.parametrize("examples", [False, True])
    def test_runs_that_collapsed_make_no_row_a_candidate(self, home, examples: bool) -> None:
        good, own = [5.0, 5.4, 5.1, 4.7, 5.2], [-61.0, -2.0, -25.0, 0.5, -2.0]
        spread = np.random.default_rng(4).normal(0, 2, (10, 60))
        spread -= spread.mean(axis=1, keepdims=True)
        tables = {
            head: np.array(levels)[:, None] + spread[place : place + 5]
            for place, (head, levels) in ((0, ("tanh", good)), (5, ("cosine", own)))
        }
        for head, table in tables.items():
            for seed, row in enumerate(table):
                more = {"head": head, "seed": seed, "monitor": {"value": row.mean()}}
                if examples:
                    home.separation(f"{head}{seed}", row, **more)
                else:
                    home.write(f"{head}{seed}", metrics={SEPARATION: row.mean()}, **more)
        board = only(home)
        tanh, cosine = board.rows
        # to 0 dB, the mixture as estimate, where a run is worse than that
        worse, clipped = np.array(own) < 0, tables["cosine"].clip(0)
        raised = np.where(worse[:, None], clipped if examples else 0.0, tables["cosine"])
        if examples:
            found, above = (
                paired_difference(a, tables["tanh"]) for a in (tables["cosine"], raised)
            )
        else:
            means = tables["tanh"].mean(axis=1)
            found, above = (
                paired_seed_difference(a.mean(axis=1), means) for a in (tables["cosine"], raised)
            )
        assert found.high > 0 > above.high  # five such seeds may mean anything
        difference = cosine.standing.difference
        assert difference.mean == pytest.approx(found.mean)
        assert difference.low == pytest.approx(found.low)
        assert difference.high == pytest.approx(above.high)
        assert (tanh.may_be_best, cosine.may_be_best) == (True, False)
        assert (tanh.ranks, cosine.ranks) == ((1, 1), (2, 2))
        assert cosine.seed_interval.high > 0  # its own interval is that of its scores
        assert "a run worse than 0.00 dB" in page(load_boards(home.path))

    def test_to_be_raised_takes_no_row_out_of_last_place(self, home) -> None:
        good, own = [-1.0, -1.2, -0.9, -1.1], [-15.0, -15.1, -14.9, -15.3]
        for head, levels in (("tanh", good), ("cosine", own)):
            for seed, level in enumerate(levels):
                scores = {"metrics": {SEPARATION: level}, "monitor": {"value": level}}
                home.write(f"{head}{seed}", head=head, seed=seed, **scores)
        cosine = only(home).rows[1]
        assert not cosine.may_be_best
        found = paired_seed_difference(own, good)
        assert cosine.standing.difference == found

    def test_a_collapse_counts_alike_from_both_sides_and_where_lower_is_better(self) -> None:
        def row(*means: float) -> Scores:
            return Scores((1, 2, 3, 4), np.array(means), None)

        good, bad = row(0.1, 0.12, 0.11, 0.1), row(0.51, 0.97, 0.6, 0.94)
        found = compare_above(bad, good, 0.5, -1.0)
        raised = paired_seed_difference([0.5] * 4, good.means)
        assert found.low == raised.low
        assert found.high == compare(bad, good).high
        assert found.p_value == raised.p_value < compare(bad, good).p_value
        turned = compare_above(good, bad, 0.5, -1.0)
        assert (turned.low, turned.high) == (-found.high, -found.low)
        above = compare_above(row(*-bad.means), row(*-good.means), -0.5, 1.0)
        assert (above.low, above.high, above.p_value) == (-found.high, -found.low, found.p_value)
        assert compare_above(bad, good, None, -1.0) == compare(bad, good)

    def test_one_seed_claims_nothing(self, full_home) -> None:
        board = load_boards(full_home.path, ["outputs"]).boards[0]
        assert [row.rank_text for row in board.rows] == ["1–2", "1–2"]
        assert "no difference on this board can be told from chance" in headline(board)

    def test_a_lone_winner_is_named_with_its_lead(self, home) -> None:
        for head, level in (("tanh", 2.0), ("sine", 9.0)):
            for seed in range(5):
                home.separation(f"{head}{seed}", values(level, seed), head=head, seed=seed)
        words = headline(only(home))
        assert (
            "distinguishably better than every other ranked setting (runner-up: head=tanh, 7.00 dB"
            in (words)
        )

    def test_no_better_than_the_mixture_is_said(self, home) -> None:
        for seed in range(3):
            home.separation(f"r{seed}", values(0.0, seed), seed=seed)
        assert "not distinguishably better than a trivial predictor (Mixture as" in headline(
            only(home)
        )

    @pytest.mark.parametrize(
        ("rates", "words"),
        [
            ((0.48, 0.47, 0.5), "(Chance: 50.00 %)"),
            ((0.46, 0.47, 0.45), None),
            ((0.53, 0.54, 0.55), "(Chance: 50.00 %)"),
        ],
    )
    def test_an_error_rate_is_better_than_chance_where_its_interval_ends_below(
        self, home, rates, words
    ) -> None:
        for seed, rate in enumerate(rates):
            metrics = {"test/equal_error_rate": rate}
            home.write(f"r{seed}", task="verification", seed=seed, metrics=metrics)
        said = "it is not distinguishably better than a trivial predictor "
        assert (f"{said}{words}" in headline(only(home))) is (words is not None)
        assert (said in headline(only(home))) is (words is not None)

    @pytest.mark.parametrize(("score", "beaten"), [(0.2, False), (0.5, True)])
    def test_the_better_of_two_trivial_predictors_is_the_one_to_beat(
        self, home, score: float, beaten: bool
    ) -> None:
        metrics = {"test/r2": score, "test/r2_zero": 0.0, "test/r2_repeat_last": 0.31}
        home.write("a", task="autoregression", metrics=metrics)
        assert ("Repeat the last frame: 0.310" in headline(only(home))) is not beaten
        assert "Zero predictor" not in headline(only(home))

    def test_the_interval_of_r2_ends_at_1(self, home) -> None:
        for seed, score in enumerate((0.99, 0.95, 0.999)):
            home.write(f"r{seed}", task="autoregression", seed=seed, metrics={"test/r2": score})
        (row,) = only(home).rows
        assert row.interval.high > 1
        found = as_json(load_boards(home.path))["boards"][0]["rows"][0]
        assert found["interval"][1] == found["next_seed"][1] == 1.0
        assert "to 1.000 for" in headline(only(home))

    def test_the_summary_fits_one_line(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        line = summary_line(board)
        assert line == (
            "margins: best of 3: loss.margin=2.0, equal error rate 11.53 ± 0.48 % (95 %, new seeds "
            "on this test set, with the same training data; 5 seeds), tied with loss.margin=8.0"
        )


class TestLabels:
    def test_rows_are_told_apart_by_what_varies(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        assert board.axes == ["loss.margin"]

    def test_a_setting_of_one_entry_counts_when_it_was_asked_for(self, full_home) -> None:
        board = load_boards(full_home.path, ["bounded_heads"]).boards[0]
        assert board.rows[-1].name == (
            "head=mu_law_softmax optimizer.lr=0.001 head.temperature=0.7"
        )

    def test_defaults_that_follow_from_an_entry_do_not(self, home) -> None:
        home.write("a", head="tanh", metrics={SEPARATION: 1.0})
        more = {"head.floor": 3, "head.levels": 256}
        home.write("b", head="sine", metrics={SEPARATION: 2.0}, set=more)
        assert only(home).axes == ["head"]

    def test_entries_of_one_class_are_told_apart_by_their_names(self, home) -> None:
        for name, levels in (("wave_unet", 12), ("wave_unet_small", 4)):
            home.write(
                name,
                config_hash=name,
                set={"net.levels": levels},
                overrides=[f"net={name}"],
                metrics={SEPARATION: float(levels)},
            )
        assert [row.name for row in only(home).rows] == ["net=wave_unet", "net=wave_unet_small"]

    def test_how_a_run_was_watched_names_no_row(self, home) -> None:
        watched = {"tanh": ["trainer.profiler=simple", "trainer.devices=2"], "sine": []}
        for head, more in watched.items():
            asked = ["task=separation", f"head={head}", *more]
            home.write(head, head=head, overrides=asked, metrics={SEPARATION: 1.0})
        assert {row.name for row in only(home).rows} == {"head=tanh", "head=sine"}

    def test_where_overrides_do_not_tell_rows_apart_settings_do(self, home) -> None:
        for place, rate in enumerate((0.1, 0.2, 0.3)):
            asked = ["task=separation", "head=sine" if place == 2 else "head=tanh"]
            more = {"set": {"optimizer.lr": rate}, "overrides": asked, "config_hash": f"c{place}"}
            home.write(f"r{place}", metrics={SEPARATION: 1.0}, **more)
        names = {row.name for row in only(home).rows}
        assert len(names) == 3
        assert any("optimizer.lr=0.2" in name for name in names)

    def test_a_lone_row_is_named_by_its_parts(self, home) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        name = only(home).rows[0].name
        assert name == "net=wave_unet head=tanh loss=si_sdr reweighting=uniform"

    def test_a_lone_row_says_all_that_was_asked_of_it(self, home) -> None:
        asked = [
            *("task=autoregression", "head=sine", "reweighting=loss_softmax"),
            *("reweighting.alpha=0.123456789", "trainer.epochs=3"),
        ]
        made = compose([*asked, "seed=4", "tracking=none", "trainer.profiler=simple"])
        about = {"settings": made.tree, "choices": made.choices, "task": "autoregression"}
        home.write("a", seed=4, metrics={"test/r2": 1.0}, overrides=list(made.overrides), **about)
        name = only(home).rows[0].name
        assert name == (
            "net=lstm_small head=sine loss=mse reweighting=loss_softmax "
            "reweighting.alpha=0.123456789 trainer.epochs=3"
        )
        again = compose(["task=autoregression", *name.split()])
        assert config_hash(again.tree) == config_hash(made.tree)

    def test_a_default_is_named_by_its_entry_and_not_by_the_module_of_its_class(self, home) -> None:
        choices = {"net": "wave_unet_small", "head": "tanh", "loss": "si_sdr"}
        home.write("a", metrics={SEPARATION: 1.0}, choices=choices)
        name = only(home).rows[0].name
        assert name == "net=wave_unet_small head=tanh loss=si_sdr reweighting=uniform"


class TestLabelsCompose:
    """A label put behind what the sweep shares makes the row's settings, and nothing else does."""

    SHARED = ("task=autoregression", "optimizer.learning_rate=0.005", "trainer.epochs=3")

    def test_a_label_composes_to_the_rows_config_hash(self, home) -> None:
        proposals = [
            ["net=lstm_small", "head=tanh"],
            ["net=lstm", "head=tanh"],
            ["net=lstm_small", "head=mu_law_softmax", "head.levels=64"],
            ["net=lstm_small", "head=tanh", "optimizer.learning_rate=0.00123456789"],
        ]
        for place, proposed in enumerate(proposals):
            keys = {item.partition("=")[0] for item in proposed}
            shared = [one for one in self.SHARED if one.partition("=")[0] not in keys]
            overrides = [*shared, *proposed, "seed=1000"]
            tree = compose(overrides).tree
            home.write(
                f"run{place}",
                task="autoregression",
                settings=tree,
                overrides=overrides,
                config_hash=config_hash(tree),
                metrics={"test/r2": 0.1 * place},
                seed=1000,
            )
        rows = only(home).rows
        assert {row.name for row in rows} >= {
            "net=lstm head=tanh optimizer.learning_rate=0.005",
            "net=lstm_small head=tanh optimizer.learning_rate=0.00123456789",
        }
        for row in rows:
            shared = {one.partition("=")[0]: one for one in self.SHARED}
            label = {item.partition("=")[0]: item for item in row.name.split(" ")}
            assert config_hash(compose([*(shared | label).values()]).tree) == row.config_hash


class TestTried:
    def search(self, home, run_id: str, head: str, value: float | None, **more) -> None:
        monitor = {"name": "val/si_sdr_improvement_db", "mode": "max", "value": value, "epoch": 1}
        home.write(run_id, head=head, purpose="search", monitor=monitor, **more)

    def test_settings_that_only_the_search_saw_stand_below_with_their_score(self, home) -> None:
        home.separation("a", values(5.0, 0), head="tanh")
        self.search(home, "s0", "tanh", 4.0, trial=0)
        self.search(home, "s1", "sine", 3.25, trial=1)
        self.search(home, "s2", "cosine", 4.5, trial=2)
        self.search(home, "s3", "linear", None, trial=3, state="pruned")
        self.search(home, "s4", "softplus", None, trial=4, state="failed", error="diverged")
        board = only(home)
        assert [(one.name, tried_text(one, board)) for one in board.tried] == [
            ("head=cosine", "searched once, validation 4.50 dB, not run on fresh seeds"),
            ("head=sine", "searched once, validation 3.25 dB, not run on fresh seeds"),
            ("head=softplus", "failed in the search: diverged"),
            ("head=linear", "pruned in the search, not run on fresh seeds"),
        ]
        assert headline(board).startswith("Best of 5 settings tried: head=tanh")
        found = as_json(load_boards(home.path))["boards"][0]
        assert found["settings_tried"] == 5
        assert [one["validation"] for one in found["tried"]] == [4.5, 3.25, None, None]
        for text in (plain(load_boards(home.path)), page(load_boards(home.path))):
            assert "searched once, validation 4.50 dB, not run on fresh seeds" in text

    def test_repeats_of_the_search_are_averaged(self, home) -> None:
        home.separation("a", values(5.0, 0), head="tanh")
        for seed, value in enumerate((3.0, 4.0)):
            self.search(home, f"s{seed}", "sine", value, trial=0, seed=seed)
            self.search(home, f"c{seed}", "cosine", value if seed else None, trial=1, seed=seed)
        board = only(home)
        assert [tried_text(one, board) for one in board.tried] == [
            "searched with 2 seeds, validation 3.50 dB, not run on fresh seeds",
            "searched with 2 seeds, validation –, not run on fresh seeds",  # one does not say
        ]

    def test_runs_that_the_search_found_already_made_are_tried_too(self, home) -> None:
        home.separation("a", values(5.0, 0), head="tanh")
        self.search(home, "s0", "sine", 3.0, trial=7, sweep="another")
        self.search(home, "s1", "cosine", 2.0, trial=3)
        folder = home.path / "sweeps" / "bounded_heads"
        folder.mkdir(parents=True)
        trials = {"trials": [{"number": 2, "runs": ["s0"]}, {"number": 3, "runs": ["s1"]}]}
        (folder / "trials.json").write_text(json.dumps(trials))
        board = only(home, "bounded_heads")
        assert [one.name for one in board.tried] == ["head=sine", "head=cosine"]
        assert [len(one.runs) for one in board.tried] == [1, 1]  # its own are listed too
        assert [trial.number for trial in board.search.trials] == [2, 3]

    def test_what_the_search_varied_is_said_even_where_finals_agree(self, home) -> None:
        for run_id, head, rate, purpose in (
            ("a", "tanh", "0.10", "final"),
            ("b", "sine", "0.10", "final"),
            ("c", "sine", "0.2", "search"),
        ):
            home.write(
                run_id,
                head=head,
                purpose=purpose,
                config_hash=f"{head}{rate}",
                metrics={SEPARATION: 1.0},
                overrides=["task=separation", f"optimizer.lr={rate}", f"head={head}", "seed=0"],
            )
        board = only(home)
        names = {row.name for row in board.rows}
        assert names == {"head=tanh optimizer.lr=0.10", "head=sine optimizer.lr=0.10"}
        assert "optimizer.lr=0.10" in headline(board)


class TestCommands:
    def test_a_seed_is_repeated_by_its_own_overrides(self, full_home) -> None:
        board = load_boards(full_home.path, ["bounded_heads"]).boards[0]
        commands = [score.command for score in board.rows[0].scores]
        assert commands[0] == "lightning-sep train head=clip_at_eval optimizer.lr=0.001 seed=100"
        assert commands[4].endswith("seed=104")

    def test_a_missing_seed_is_added(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        command = board.rows[0].scores[3].command
        assert command == "lightning-sep train task=verification loss.margin=2.0 seed=3"

    def test_the_shell_sees_no_more_than_words(self, home) -> None:
        evil = "net.name=$(rm -rf ~); echo"
        home.write("a", overrides=[evil], metrics={SEPARATION: 1.0})
        command = only(home).rows[0].scores[0].command
        assert command == f"lightning-sep train '{evil}' seed=0"

    def test_without_overrides_the_record_is_reproduced(self, home) -> None:
        home.write("abc123", overrides=[], metrics={SEPARATION: 1.0})
        assert only(home).rows[0].scores[0].command == "lightning-sep reproduce abc123"


class TestBaselines:
    def test_the_measured_trivial_predictor_stands_beside_the_known_one(self, full_home) -> None:
        board = load_boards(full_home.path, ["outputs"]).boards[0]
        assert board.baselines == [("Zero predictor", 0.0), ("Repeat the last frame", 0.31)]

    def test_chance_is_half(self, full_home) -> None:
        board = load_boards(full_home.path, ["margins"]).boards[0]
        assert board.baselines == [("Chance", 0.5)]
        assert "What is the trivial predictor?" in page(load_boards(full_home.path, ["margins"]))
        assert board.metric.clipped(-0.1, 1.2) == (0.0, 1.0)  # no rate is beyond
        assert board.metric.clipped(0.1, 0.2) == (0.1, 0.2)


class TestLoading:
    def test_none_shows_every_sweep(self, full_home) -> None:
        names = [board.name for board in load_boards(full_home.path).boards]
        assert names == ["bounded_heads", "margins", "outputs"]

    def test_boards_stand_in_the_order_that_they_were_asked_for(self, full_home) -> None:
        found = load_boards(full_home.path, ["outputs", "bounded_heads", "margins"])
        assert [board.name for board in found.boards] == ["outputs", "bounded_heads", "margins"]

    def test_an_unknown_board_is_answered_with_near_names(self, full_home) -> None:
        with pytest.raises(ConfigError, match=r"no board 'margin' .*Did you mean 'margins'"):
            load_boards(full_home.path, ["margin"])

    def test_a_home_without_sweeps_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"lightning-sep sweep"):
            load_boards(tmp_path / "nowhere", ["margins"])

    def test_records_that_cannot_be_read_are_named_with_the_reason(self, home) -> None:
        home.write("good", metrics={SEPARATION: 1.0})
        home.write("newer", format=3)
        (home.path / "torn").mkdir()
        (home.path / "torn" / "record.json").write_text('{"format": 1, "run')
        (home.path / "list").mkdir()
        (home.path / "list" / "record.json").write_text("[]")
        skipped = {skip.folder: skip.reason for skip in load_boards(home.path).skipped}
        assert set(skipped) == {"list", "newer", "torn"}
        assert skipped["newer"] == "record format 3 is newer than this version reads (2)"

    def test_what_does_not_fit_its_hashes_is_named_and_not_ranked(self, home) -> None:
        for run_id in ("whole", "edited", "swapped"):
            folder = home.write(run_id, metrics={SEPARATION: 1.0})
            (folder / "test_examples.json").write_text(json.dumps({SEPARATION: [1.0]}))
            made = json.loads((folder / "record.json").read_text())
            examples = hashlib.sha256((folder / "test_examples.json").read_bytes()).hexdigest()
            (folder / "record.json").unlink()
            made |= {"examples_file": "test_examples.json", "hashes": {"examples": examples}}
            del made["format"]
            write_record(folder, made)
        assert not load_boards(home.path).skipped
        edited = home.path / "edited" / "record.json"
        edited.write_text(edited.read_text().replace(f'"{SEPARATION}": 1.0', f'"{SEPARATION}": 9'))
        swapped = home.path / "swapped" / "test_examples.json"
        swapped.write_text(json.dumps({SEPARATION: [9.0]}))
        found = load_boards(home.path)
        assert {skip.folder: skip.reason for skip in found.skipped} == {
            "edited": f"{edited} was changed after it was written",
            "swapped": f"{swapped} was changed after it was written",
        }
        (row,) = found.boards[0].rows
        assert [score.run.run_id for score in row.scores] == ["whole"]

    def test_a_metric_that_is_no_finite_number_is_none(self, home) -> None:
        odd = {"test/a": None, "test/b": "1", "test/c": True, "test/d": float("inf")}
        home.write("mixed", metrics={SEPARATION: 1.0, "test/whole": 3, **odd})
        home.write("endless", metrics={SEPARATION: 1.0, "test/d": float("-inf")})
        assert read_run(home.path / "mixed").metrics == {SEPARATION: 1.0, "test/whole": 3.0}
        assert read_run(home.path / "endless").metrics == {SEPARATION: 1.0}

    def test_a_finished_run_without_a_score_is_not_said_to_have_failed(self, home) -> None:
        home.write("a", seed=0, metrics={SEPARATION: 1.0})
        home.write("b", seed=1, metrics={SEPARATION: float("nan")})
        home.write("c", seed=2, state="failed", error="diverged", metrics={})
        (one,) = only(home).apart
        assert one.reasons == [
            "1 of 3 fresh seeds count",
            f"seed 1 finished, and its record has no finite {SEPARATION}",
            "seed 2 failed: diverged",
        ]
        assert f"finished, and its record has no finite {SEPARATION}" in page(
            load_boards(home.path)
        )

    def test_a_best_that_was_chosen_on_test_is_said_to_be_favoured(self, home) -> None:
        for head, value in (("tanh", 1.0), ("sine", 2.0)):
            home.write(head, head=head, metrics={SEPARATION: value}, monitor={})
        board, text = only(home), page(load_boards(home.path))
        assert board.best.name == "head=sine"
        assert board.notes[0].endswith("was chosen by its test score, which favours it.")
        assert "had no part in the choice" not in text
        assert "too good by what luck gave it" in text
        assert summary_line(board).endswith(
            "with one seed each no difference can be told from chance"
        )
        home.write("other", sweep="b", metrics={SEPARATION: 1.0})
        assert "had no part in the choice" in page(load_boards(home.path, ["b"]))
        assert only(home, "b").notes == board.notes[1:]

    def test_a_row_that_could_not_be_chosen_is_named(self, home) -> None:
        home.write("a", head="tanh", metrics={SEPARATION: 1.0})
        home.write("b", head="sine", metrics={SEPARATION: 2.0}, monitor={})
        board = only(home)
        assert board.best.name == "head=tanh"
        said = "Without validation scores of all runs, and so not chosen as the best: head=sine."
        assert board.notes[0] == said

    def test_a_score_that_diverged_is_said_in_powers_of_ten(self, home) -> None:
        metrics = {"test/r2": -1.25e30, "test/r2_free_running": -3e12}
        home.write("a", task="autoregression", metrics=metrics)
        home.write("b", task="autoregression", head="sine", metrics={"test/r2": -9876543.25})
        text = plain(load_boards(home.path))
        assert " −1.25e+30 " in text
        assert " −3e+12 " in text
        assert " −9876543.250 " in text
        assert "000000" not in text

    @pytest.mark.parametrize(("mode", "rises"), [("min", False), ("max", True)])
    def test_what_was_monitored_has_a_direction_of_its_own(self, home, mode, rises) -> None:
        for head, value in (("tanh", 0.2), ("sine", 0.4)):
            monitor = {"name": "val/own", "mode": mode, "value": value}
            home.write(head, head=head, metrics={SEPARATION: 1.0}, monitor=monitor)
        board = only(home)
        assert board.monitor_rises is rises
        assert board.best.name == ("head=sine" if rises else "head=tanh")
        text = page(load_boards(home.path))
        (data,) = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
        assert data["monitor"] == {"label": "val/own", "higher": rises}
        heading = re.search(r"<th[^>]*>(?:(?!</th>).)*Validation", text, re.DOTALL)[0]
        order = "descending" if rises else "ascending"
        assert f'data-first="{order}"' in heading.rpartition("<th")[2]

    def test_fields_of_the_wrong_type_skip_the_record(self, home) -> None:
        home.write("odd", metrics=[1, 2])
        (skip,) = load_boards(home.path).skipped
        assert skip.reason == "metrics is not an object"

    def test_single_runs_are_a_board_per_task_when_asked(self, home) -> None:
        home.write("a", sweep=None, purpose="single", metrics={SEPARATION: 1.0})
        home.write(
            "b", sweep=None, purpose="single", task="autoregression", metrics={"test/r2": 0.5}
        )
        home.write("c", metrics={SEPARATION: 1.0})
        boards = load_boards(home.path, ["single"]).boards
        assert [board.name for board in boards] == ["single/autoregression", "single/separation"]

    def test_single_runs_on_other_data_are_another_board(self, home) -> None:
        for run_id, data in (("a", {"esc10": "1"}), ("b", {"piano": "2"}), ("c", {"piano": "3"})):
            more = {"sweep": None, "purpose": "single", "data": data}
            home.write(run_id, metrics={SEPARATION: 1.0}, **more)
        boards = load_boards(home.path, ["single"]).boards
        assert [board.name for board in boards] == [
            "single/separation/esc10",
            "single/separation/piano 2",
            "single/separation/piano 3",
        ]
        assert all(len(board.rows) == 1 for board in boards)

    def test_single_runs_of_other_code_are_ranked_and_named(self, home) -> None:
        for head, code in (("tanh", "c0de"), ("sine", "beef")):
            environment = {"device": "cpu", "code_hash": code}
            more = {"sweep": None, "purpose": "single", "environment": environment}
            home.write(head, head=head, metrics={SEPARATION: 1.0}, **more)
        (board,) = load_boards(home.path, ["single"]).boards
        assert len(board.rows) == 2
        assert "Made with 2 states of the code: beef, c0de." in board.notes

    def test_single_runs_of_other_versions_and_devices_are_named(
        self, home, tmp_path: Path, monkeypatch
    ) -> None:
        (tmp_path / "conf" / "board").mkdir(parents=True)
        (tmp_path / "conf" / "board" / "single.yaml").write_text("equal: []\n")
        monkeypatch.chdir(tmp_path)
        for head, torch, device in (("tanh", "2.13.0", "cpu"), ("sine", "2.12.1", "H100")):
            more = {"environment": {"torch": torch, "device": device}, "head": head}
            home.write(head, sweep=None, purpose="single", metrics={SEPARATION: 1.0}, **more)
        (board,) = load_boards(home.path, ["single"]).boards
        assert board.notes[1:] == [
            "Made with 2 versions of torch: 2.12.1, 2.13.0.",
            "Runs come from different devices: H100; cpu.",
        ]

    def test_code_that_no_commit_holds_has_no_commit(self, home) -> None:
        environment = {"device": "cpu", "code_revision": "ab" * 20, "uncommitted_hash": "d1"}
        home.write("a", metrics={SEPARATION: 1.0}, environment=environment)
        assert only(home).rows[0].commit is None
        assert "Code: commit" not in plain(load_boards(home.path))

    def test_single_runs_wait_behind_sweeps(self, home) -> None:
        home.write("a", sweep=None, purpose="single", metrics={SEPARATION: 1.0})
        home.write("c", metrics={SEPARATION: 1.0})
        found = load_boards(home.path)
        assert ([board.name for board in found.boards], found.singles) == (["bounded_heads"], 1)
        (home.path / "c" / "record.json").unlink()
        found = load_boards(home.path)
        assert ([board.name for board in found.boards], found.singles) == (["single"], 0)

    def test_a_run_under_way_is_neither_score_nor_failure(self, home) -> None:
        home.write("a", seed=0, metrics={SEPARATION: 1.0})
        home.write("b", seed=1, state="running")
        (row,) = only(home).rows
        assert (len(row.scores), len(row.failed)) == (1, 0)

    def test_a_sweep_without_finals_says_what_comes(self, home) -> None:
        home.write("s", purpose="search", trial=0, metrics={})
        words = headline(only(home))
        assert "No final runs yet" in words
        assert "`lightning-sep status bounded_heads`" in words


class TestDocument:
    def test_has_the_promised_fields(self, full_home) -> None:
        import jsonschema

        ends = {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2}
        rank = {"type": ["integer", "null"]}
        row = {
            "type": "object",
            "required": ["name", "settings", "mean", "interval", "seeds", "failed", "percentiles"],
            "properties": {
                "rank_low": rank,
                "rank_high": rank,
                "interval": ends,
                "seed_interval": ends,
                "next_seed": ends,
                "seeds": {
                    "items": {"required": ["seed", "value", "run_id", "command"]},
                },
            },
        }
        board = {
            "type": "object",
            "required": ["name", "task", "metric", "truth", "headline", "rows", "search"],
            "properties": {"rows": {"type": "array", "minItems": 1, "items": row}},
        }
        schema = {
            "type": "object",
            "required": ["format", "confidence", "boards", "skipped"],
            "properties": {
                "format": {"const": 1},
                "boards": {"type": "array", "minItems": 3, "items": board},
            },
        }
        jsonschema.validate(as_json(load_boards(full_home.path)), schema)

    def test_holds_numbers_in_the_metrics_own_unit(self, full_home) -> None:
        board = as_json(load_boards(full_home.path, ["margins"]))["boards"][0]
        assert board["rows"][0]["mean"] == pytest.approx(0.1153, abs=1e-4)
        assert (board["rows"][0]["rank_low"], board["rows"][0]["rank_high"]) == (1, 2)
        assert len(board["rows"][0]["seeds"]) == 5

    def test_its_text_says_the_same_with_a_line_for_each_setting(self, full_home) -> None:
        found = load_boards(full_home.path)
        text, document = as_text(found), as_json(found)
        assert json.loads(text) == document
        lines = [line.strip().removesuffix(",") for line in text.splitlines()]
        for board in document["boards"]:
            for one in (*board["rows"], *board["apart"], *board["tried"]):
                assert json.dumps(one) in lines
        assert len(document["boards"][0]["tried"]) > 20

    def test_a_setting_that_is_no_finite_number_is_told_as_text(self, home) -> None:
        for place, value in enumerate(("inf", "2.0", "9" * 400)):
            more = {"set": {"loss.limit": float(value)}, "config_hash": f"limit-{value}"}
            home.write(f"f{place}", overrides=[], metrics={SEPARATION: 1.0}, **more)
            said = {"overrides": [f"loss.limit={value}"], "config_hash": f"search-{value}"}
            home.write(f"s{place}", sweep="others", purpose="search", trial=place, **said)
        found = load_boards(home.path)
        rows = json.loads(as_text(found))["boards"][0]["rows"]
        assert sorted(str(row["settings"]["loss.limit"]) for row in rows) == ["2.0", "inf", "inf"]
        (data,) = re.findall(r'id="data">(.*?)</script>', page(found), re.DOTALL)
        assert "Infinity" not in data

    def test_counts_the_search(self, full_home) -> None:
        board = as_json(load_boards(full_home.path, ["bounded_heads"]))["boards"][0]
        assert board["search"]["trials"] == 28
        assert board["search"]["failed"] == 1


def test_what_a_race_has_dropped_stands_apart_with_how_far_it_was_behind(home) -> None:
    for place, (head, seeds) in enumerate((("sine", 5), ("tanh", 3))):
        for seed in range(1000, 1000 + seeds):
            values = np.random.default_rng([place, seed]).normal(5 - place, 1, 40)
            monitor = {"name": "val/si_sdr_improvement_db", "mode": "max", "value": 5.0 - place}
            more = {"head": head, "seed": seed, "trial": 4 + place, "monitor": monitor}
            home.separation(f"{head}{seed}", values, **more)
    folder = home.path / "sweeps" / "bounded_heads"
    folder.mkdir(parents=True)
    asks = {"question": "", "final_seeds": 5}
    (folder / "sweep.json").write_text(json.dumps({"asks": asks}))

    def reasons() -> list[str]:
        (board,) = load_boards(home.path).boards
        assert [row.name for row in board.rows] == ["head=sine"]
        (apart,) = board.apart
        return apart.reasons

    assert reasons() == ["3 of 5 fresh seeds finished"]  # it is still going on
    trials = folder / "trials.json"
    dropped = {"after": 3, "leader": 4, "behind": 1.204}
    content = {"finalists": [{"trial": 4, "dropped": None}, {"trial": 5, "dropped": dropped}]}
    trials.write_text(json.dumps(content))
    assert reasons() == [
        "dropped after 3 of 5 fresh seeds: behind head=sine by 1.20 dB on validation"
    ]
    # What does not count is said first: it may not have been dropped without it.
    record = home.path / "tanh1001" / "record.json"
    record.write_text(record.read_text().replace('"finished"', '"failed"', 1))
    assert reasons()[0] == "2 of 5 fresh seeds finished"
    content["finalists"][1]["dropped"] = {"after": "many"}
    trials.write_text(json.dumps(content))
    assert reasons()[0] == "2 of 5 fresh seeds finished"
