"""What the tasks must compute, written again by loops in NumPy: nothing here calls the package."""

from itertools import permutations
from math import exp, log, log10

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def energy(signal: Array) -> float:
    return float(sum(value * value for value in signal))


def si_sdr(estimate: Array, target: Array) -> float:
    """10 log10(|projection|^2 / |rest|^2)."""
    share = float(np.dot(estimate, target)) / energy(target)
    return 10 * log10(energy(share * target) / energy(estimate - share * target))


def mse(estimate: Array, target: Array) -> float:
    return energy(estimate - target) / len(target)


def thresholded_snr(estimate: Array, target: Array, mixture: Array) -> float:
    """FUSS: 30 dB at most for a sound; for silence 20 dB under the mixture, or full scale."""
    if energy(target) > 0:
        reference, ceiling = energy(target), 1e-3
    else:
        reference, ceiling = energy(mixture) or len(target), 1e-2
    return 10 * log10(energy(target - estimate) / reference + ceiling)


def mu_law_level(value: float, levels: int) -> int:
    mu = levels - 1
    companded = np.sign(value) * log(1 + mu * abs(value)) / log(1 + mu)
    return int((companded + 1) / 2 * mu + 0.5)


def best_order(pairwise: Array, counted: NDArray[np.bool_]) -> tuple[int, ...]:
    """Number of the estimate for each target, with the least sum over the counted targets."""
    sources = len(pairwise)
    return min(
        permutations(range(sources)),
        key=lambda order: sum(pairwise[order[s], s] for s in range(sources) if counted[s]),
    )


def softmax(scores: list[float]) -> Array:
    parts = np.array([exp(score) for score in scores])
    return parts / parts.sum()


def kl(p: Array, q: Array) -> float:
    return float(sum(a * log(a / b) for a, b in zip(p, q, strict=True)))


def hinge_pair(p: Array, q: Array, same: bool, margin: float) -> float:
    """Cost of an unordered pair of distributions, both directions (Hsu and Kira, 2015)."""
    there, back = kl(p, q), kl(q, p)
    return there + back if same else max(0.0, margin - there) + max(0.0, margin - back)


def errors_at(scores: list[float], same: list[bool], threshold: float) -> tuple[float, float]:
    """Share of same-speaker trials refused and of others accepted, at a threshold."""
    targets = [score for score, flag in zip(scores, same, strict=True) if flag]
    others = [score for score, flag in zip(scores, same, strict=True) if not flag]
    miss = sum(score <= threshold for score in targets) / len(targets)
    return miss, sum(score > threshold for score in others) / len(others)


def closest_threshold(scores: list[float], same: list[bool]) -> float:
    """The score at which both error rates lie closest together, the lowest in a tie."""

    def gap(threshold: float) -> float:
        miss, alarm = errors_at(scores, same, threshold)
        return abs(alarm - miss)

    return min(sorted(scores), key=gap)
