"""The synthetic set, recorded too loud: for questions about bounds."""

from zlib import crc32

import numpy as np

from lightning_sep.checks import finite_number
from lightning_sep.data.synthesis import Signal
from lightning_sep.data.synthetic import Synthetic

_DRIVE_DB = (6.0, 12.0)  # how far beyond full scale the peak of a clipped recording would be


class FullScale(Synthetic):
    """The synthetic sounds, each as loud as a recording can hold, some of them clipped.

    Every recording reaches full scale. Those that are clipped were driven 6 to 12 dB too far: their
    tops are flat, as in many a recording of a concert or a drum, and whoever is to give them back
    has to reach the bound and stay there.

    Args:
        clipped: share of the recordings that are clipped, from 0 to 1.
        seed: another seed gives other speakers, noises and tunes.
        speakers: how many voices; two thirds train, a sixth validates, a sixth tests.
        sample_rate: in Hz; made at 8000 and resampled if another is asked for.
        cache_limit_mb: bound of the decoded cache in MiB.

    Raises:
        ConfigError: a setting is out of its range.
    """

    name = "full_scale"

    def __init__(
        self,
        clipped: float = 0.5,
        seed: int = 0,
        speakers: int = 24,
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
    ) -> None:
        # Clipped recordings are what this set is for: those that prepare it keep them.
        super().__init__(seed, speakers, sample_rate, cache_limit_mb, keep=True)
        self.clipped = finite_number("clipped", clipped, at_least=0, at_most=1, meaning="a share")

    def further(self) -> list[float]:
        return [self.clipped]

    def recorded(self, signal: Signal, identity: str) -> Signal:
        generator = np.random.default_rng([self.seed, crc32(identity.encode())])
        low, high = _DRIVE_DB
        gain = 10.0 ** (generator.uniform(low, high) / 20.0)
        if generator.random() >= self.clipped:
            gain = 1.0
        return np.asarray(np.clip(gain * signal / np.abs(signal).max(), -1.0, 1.0))
