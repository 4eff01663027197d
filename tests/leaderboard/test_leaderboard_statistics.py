"""What the intervals and ranks promise, worked by hand and held against simulated boards."""

import math

import numpy as np
import pytest

from lightning_sep.leaderboard.statistics import (
    crossed,
    crossed_difference,
    crossed_interval,
    holm,
    paired_difference,
    paired_seed_difference,
    prediction_interval,
    rank_intervals,
    seed_difference,
    seed_interval,
)

DRAWS = 400
# 400 draws of a 95 % interval: the share that holds the truth has a standard error of 1.1 %
TOLERANCE = 0.035


def board(
    generator: np.random.Generator, *, seeds: int = 5, examples: int = 100, mean: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of one setting and the examples' difficulty: seed sd 0.3, example sd 3, rest 1."""
    difficulty = generator.normal(0, 3, examples)
    scores = mean + difficulty + generator.normal(0, 0.3, (seeds, 1))
    return scores + generator.normal(0, 1, (seeds, examples)), difficulty


class TestSeedInterval:
    def test_matches_students_table(self) -> None:
        interval = seed_interval([9.0, 10.0, 11.0, 10.0, 10.0])
        # mean 10, sd sqrt(1/2), t(4) = 2.7764451 from tables
        reach = 2.7764451 * math.sqrt(0.5 / 5)
        assert interval.mean == 10.0
        assert interval.high == pytest.approx(10 + reach, abs=1e-6)
        assert interval.low == pytest.approx(10 - reach, abs=1e-6)
        assert interval.half_width == pytest.approx(reach, abs=1e-6)

    def test_one_seed_has_a_mean_and_no_interval(self) -> None:
        interval = seed_interval([3.0])
        assert (interval.mean, interval.low, interval.high, interval.degrees) == (
            3,
            None,
            None,
            None,
        )
        assert interval.half_width is None

    def test_no_seed_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"seed >= 1"):
            seed_interval([])

    @pytest.mark.parametrize("seeds", [3, 5, 10])
    def test_covers_the_mean_of_new_seeds(self, seeds: int) -> None:
        generator = np.random.default_rng(seeds)
        hits = 0
        for _ in range(DRAWS):
            scores, difficulty = board(generator, seeds=seeds)
            interval = seed_interval(scores.mean(axis=1))
            hits += interval.low <= difficulty.mean() <= interval.high
        assert hits / DRAWS == pytest.approx(0.95, abs=TOLERANCE)


class TestPredictionInterval:
    def test_is_wider_by_the_known_factor(self) -> None:
        means = [1.0, 2.0, 4.0, 5.0]
        ratio = prediction_interval(means).half_width / seed_interval(means).half_width
        assert ratio == pytest.approx(math.sqrt(1 + 1 / 4) * math.sqrt(4))

    def test_holds_one_more_seed(self) -> None:
        generator = np.random.default_rng(1)
        hits = 0
        for _ in range(DRAWS):
            *means, another = generator.normal(8, 0.3, 6)
            interval = prediction_interval(means)
            hits += interval.low <= another <= interval.high
        assert hits / DRAWS == pytest.approx(0.95, abs=TOLERANCE)

    def test_one_seed_predicts_nothing(self) -> None:
        assert prediction_interval([1.0]).low is None


class TestCrossedInterval:
    def test_analysis_of_variance_by_hand(self) -> None:
        table = crossed([[1.0, 2.0, 6.0], [2.0, 5.0, 8.0]])
        # seed means 3 and 5, example means 1.5, 3.5, 7; residuals +-0.5, -+0.5, 0
        assert table.ms_seed == pytest.approx(3 * 2)
        assert table.ms_example == pytest.approx(2 * ((2.5**2 + 0.5**2 + 3**2) / 2))
        assert table.ms_residual == pytest.approx(4 * 0.25 / 2)

    def test_variance_and_degrees_by_hand(self) -> None:
        interval = crossed_interval([[1.0, 2.0, 6.0], [2.0, 5.0, 8.0]])
        total = 6 + 15.5 - 0.5
        degrees = total**2 / (6**2 / 1 + 15.5**2 / 2 + 0.5**2 / 2)
        assert interval.mean == 4
        assert interval.degrees == pytest.approx(degrees)
        from scipy.stats import t

        assert interval.half_width == pytest.approx(t.ppf(0.975, degrees) * math.sqrt(total / 6))

    def test_is_floored_at_the_larger_single_term(self) -> None:
        scores = np.array([[1.0, -1.0], [-1.0, 1.0]])  # all residual: seeds and examples agree
        scores[0] += 0.2
        table = crossed(scores)
        assert table.ms_residual > table.ms_seed
        interval = crossed_interval(table)
        spread = table.ms_seed**2 + table.ms_example**2 + table.ms_residual**2
        assert interval.degrees == pytest.approx(max(table.ms_seed, table.ms_example) ** 2 / spread)

    def test_one_seed_has_no_interval(self) -> None:
        interval = crossed_interval([[1.0, 3.0]])
        assert (interval.mean, interval.low) == (2.0, None)

    def test_scores_without_spread_give_a_point(self) -> None:
        interval = crossed_interval(np.full((3, 4), 2.5))
        assert (interval.low, interval.high) == (2.5, 2.5)

    @pytest.mark.parametrize("shape", [(3,), (3, 1), (0, 5)])
    def test_what_is_no_table_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\[seed, example >= 2\]"):
            crossed(np.zeros(shape))

    @pytest.mark.parametrize("seeds", [3, 5, 10])
    @pytest.mark.parametrize("skewed", [False, True])
    def test_covers_new_seeds_and_examples(self, seeds: int, skewed: bool) -> None:
        generator = np.random.default_rng(seeds)
        hits = 0
        for _ in range(DRAWS):
            scores, difficulty = board(generator, seeds=seeds)
            if skewed:  # exponential examples of the same spread
                scores += 3 * (generator.exponential(1, difficulty.size) - 1) - difficulty
            interval = crossed_interval(scores)
            hits += interval.low <= 0.0 <= interval.high
        assert hits / DRAWS == pytest.approx(0.95, abs=TOLERANCE)

    def test_seeds_alone_would_not_cover_new_examples(self) -> None:
        generator = np.random.default_rng(0)
        hits = 0
        for _ in range(DRAWS):
            scores, _ = board(generator)
            interval = seed_interval(scores.mean(axis=1))
            hits += interval.low <= 0.0 <= interval.high
        assert hits / DRAWS < 0.9


class TestDifferences:
    def test_paired_examples_by_hand(self) -> None:
        a = np.array([[2.0, 4.0, 9.0], [3.0, 7.0, 8.0]])
        b = np.array([[1.0, 2.0, 6.0], [2.0, 5.0, 8.0]])
        found = crossed_difference(a, b)
        # per example: 1, 2, 1.5; seed variances of the means 0.5 and 2
        left, right = crossed(a), crossed(b)
        variance = 0.5 / 2 + 2 / 2 + 0.25 / 3 - (left.ms_residual + right.ms_residual) / 6
        assert found.mean == pytest.approx(1.5)
        floor = 0.5 / 2 + 2 / 2
        reach = found.high - found.mean
        from scipy.stats import t

        assert reach == pytest.approx(t.ppf(0.975, found.degrees) * math.sqrt(max(variance, floor)))

    def test_unequal_numbers_of_seeds_by_hand(self) -> None:
        generator = np.random.default_rng(8)
        a, b = generator.normal(0, 1, (9, 4)), generator.normal(0.4, 2, (3, 4))
        found = crossed_difference(a, b)

        def squares(table: np.ndarray) -> tuple[float, float]:
            """Variance of the seeds' means and of the residual."""
            rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
            seeds, examples = table.shape
            return table.mean(axis=1).var(ddof=1), (rest**2).sum() / ((seeds - 1) * (examples - 1))

        (of_a, rest_a), (of_b, rest_b) = squares(a), squares(b)
        gaps = (a.mean(axis=0) - b.mean(axis=0)).var(ddof=1)
        parts = [of_a / 9, of_b / 3, gaps / 4, rest_a / 36, rest_b / 12]
        variance = max(sum(parts[:3]) - sum(parts[3:]), sum(parts[:2]), parts[2])
        free = [8, 2, 3, 8 * 3, 2 * 3]
        degrees = variance**2 / sum(one**2 / n for one, n in zip(parts, free, strict=True))
        assert degrees < 10  # else the numbers of seeds would decide
        assert found.degrees == pytest.approx(degrees)
        from scipy.stats import t

        reach = t.ppf(0.975, degrees) * math.sqrt(variance)
        assert found.high - found.mean == pytest.approx(reach)
        assert found.p_value == pytest.approx(
            2 * t.sf(abs(found.mean) / math.sqrt(variance), degrees)
        )

    def test_rows_of_the_same_seeds_are_compared_by_the_table_of_their_differences(self) -> None:
        a = np.array([[2.0, 4.0, 9.0], [3.0, 7.0, 8.0], [4.0, 4.0, 7.0]])
        b = np.array([[1.0, 2.0, 6.0], [2.0, 5.0, 8.0], [1.0, 3.0, 5.0]])
        found = paired_difference(a, b)
        # differences 1 2 3 / 1 2 0 / 3 1 2: means of seeds 2, 1, 2; of examples 5/3 each
        assert found.mean == pytest.approx(5 / 3)
        ms_seed, ms_example = 3 * (1 / 3), 0.0
        ms_residual = (8 - 2) / 4  # squares around 5/3 sum to 8, those of the seeds to 2
        total = max(ms_seed + ms_example - ms_residual, ms_seed, ms_example)
        degrees = min(total**2 / (ms_seed**2 / 2 + ms_residual**2 / 4), 2)
        assert found.degrees == pytest.approx(degrees)
        from scipy.stats import t

        reach = t.ppf(0.975, degrees) * math.sqrt(total / 9)
        assert found.high == pytest.approx(5 / 3 + reach)

    def test_degrees_of_freedom_end_at_those_of_the_seeds(self) -> None:
        generator = np.random.default_rng(6)
        a, b = generator.normal(0, 1, (2, 3, 400))
        a += generator.normal(0, 10, 400)  # the examples' term, with 399, is the largest
        assert paired_difference(a, b).degrees == 2
        assert crossed_difference(a, b).degrees == 4

    def test_seed_means_are_paired_where_there_are_no_examples(self) -> None:
        from scipy.stats import ttest_rel

        found = paired_seed_difference([1.0, 1.2, 0.9, 1.1], [0.9, 1.15, 0.7, 1.05])
        reference = ttest_rel([1.0, 1.2, 0.9, 1.1], [0.9, 1.15, 0.7, 1.05])
        assert found.p_value == pytest.approx(reference.pvalue)
        assert found.low == pytest.approx(reference.confidence_interval(0.95).low)

    def test_one_shared_seed_cannot_be_tested(self) -> None:
        assert paired_difference([[1.0, 2.0]], [[0.0, 1.0]]).p_value is None
        assert paired_seed_difference([1.0], [0.0]).p_value is None

    def test_what_is_not_of_one_shape_is_not_paired(self) -> None:
        with pytest.raises(ValueError, match=r"same seeds and examples, got \[2, 3\] and \[3, 3\]"):
            paired_difference(np.zeros((2, 3)), np.zeros((3, 3)))

    def test_p_value_belongs_to_the_interval(self) -> None:
        found = seed_difference([1.0, 1.2, 0.9, 1.1], [0.5, 0.7, 0.4])
        from scipy.stats import ttest_ind

        reference = ttest_ind([1.0, 1.2, 0.9, 1.1], [0.5, 0.7, 0.4], equal_var=False)
        assert found.p_value == pytest.approx(reference.pvalue)
        assert found.low == pytest.approx(reference.confidence_interval(0.95).low)

    def test_covers_the_true_gap(self) -> None:
        generator = np.random.default_rng(3)
        hits = 0
        for _ in range(DRAWS):
            a, difficulty = board(generator, mean=0.6)
            taste = generator.normal(0, 1, difficulty.size)
            b = difficulty + taste + generator.normal(0, 0.3, (5, 1))
            b = b + generator.normal(0, 1, a.shape)
            found = crossed_difference(a, b)
            hits += found.low <= 0.6 <= found.high
        assert hits / DRAWS >= 0.95 - TOLERANCE

    def test_pairing_finds_what_separate_intervals_miss(self) -> None:
        generator = np.random.default_rng(4)
        paired = overlapping = 0
        for _ in range(100):
            a, difficulty = board(generator, mean=0.8)
            b = difficulty + generator.normal(0, 0.3, (5, 1)) + generator.normal(0, 1, a.shape)
            paired += crossed_difference(a, b).p_value < 0.05
            overlapping += crossed_interval(a).low > crossed_interval(b).high
        assert paired > 60
        assert overlapping < 10

    def test_one_seed_cannot_be_tested_over_seeds(self) -> None:
        assert seed_difference([1.0], [1.5, 1.0]).p_value is None

    def test_one_seed_cannot_be_tested_over_examples(self) -> None:
        assert crossed_difference([[1.0, 2.0]], [[1.5, 1.0], [1.0, 1.0]]).p_value is None

    def test_different_numbers_of_examples_are_refused(self) -> None:
        with pytest.raises(ValueError, match="same examples, got 3 and 2"):
            crossed_difference(np.zeros((2, 3)), np.zeros((2, 2)))

    def test_certain_scores_differ_without_doubt(self) -> None:
        assert seed_difference([1.0, 1.0], [2.0, 2.0]).p_value == 0.0
        assert seed_difference([1.0, 1.0], [1.0, 1.0]).p_value == 1.0


class TestRanks:
    def test_holm_never_falls_below_a_smaller_p(self) -> None:
        assert holm([0.01, 0.02, 0.021, 0.9]) == pytest.approx([0.04, 0.06, 0.06, 0.9])

    def test_a_clear_order_has_single_ranks(self) -> None:
        pairs = [(0, 1, 0.001), (0, 2, 0.001), (1, 2, 0.001)]
        found = rank_intervals([3.0, 2.0, 1.0], pairs, higher_is_better=True)
        assert found == [(1, 1), (2, 2), (3, 3)]

    def test_direction_turns_the_order(self) -> None:
        pairs = [(0, 1, 0.001)]
        assert rank_intervals([3.0, 2.0], pairs, higher_is_better=False) == [(2, 2), (1, 1)]

    def test_what_does_not_survive_the_correction_is_a_tie(self) -> None:
        pairs = [(0, 1, 0.03), (0, 2, 0.04), (1, 2, 0.045)]  # each below 5 %, not together
        found = rank_intervals([3.0, 2.0, 1.0], pairs, higher_is_better=True)
        assert found == [(1, 3), (1, 3), (1, 3)]

    def test_untested_pairs_are_ties(self) -> None:
        assert rank_intervals([3.0, 1.0], [(0, 1, None)], higher_is_better=True) == [(1, 2), (1, 2)]

    def test_all_true_ranks_are_covered_at_once(self) -> None:
        generator = np.random.default_rng(5)
        truth = [2.0, 1.2, 1.2, 0.0]
        possible = [(1, 1), (2, 3), (2, 3), (4, 4)]
        whole = 0
        for _ in range(200):
            difficulty = generator.normal(0, 3, 80)
            tables = [
                crossed(
                    level
                    + difficulty
                    + generator.normal(0, 0.3, (5, 1))
                    + generator.normal(0, 1, (5, 80))
                )
                for level in truth
            ]
            pairs = [
                (i, j, crossed_difference(tables[i], tables[j]).p_value)
                for i in range(4)
                for j in range(i + 1, 4)
            ]
            found = rank_intervals([t.mean for t in tables], pairs, higher_is_better=True)
            # a truth of "2 or 3" is covered when either of its ranks may be held
            whole += all(
                low <= last and first <= high
                for (low, high), (first, last) in zip(found, possible, strict=True)
            )
        assert whole / 200 >= 0.95
