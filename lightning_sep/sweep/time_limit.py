"""The end of a batch job, seen from within: a worker saves before it comes."""

import time
from collections.abc import Mapping

END = "SLURM_JOB_END_TIME"
SAFETY_S = 20.0
_MOST = 0.25  # of the job's time
_NOTICE_S = 150.0  # Slurm's own signal comes 120 s before the end, or in the last quarter


class TimeLimit:
    """Whether the job that this process is in ends so soon that it is time to save.

    How early that is follows from the longest time that has passed between two questions: a step, a
    validation batch, a checkpoint. Twice that and 20 s are left, but never more than a quarter of
    what the job has.

    Args:
        environment: of this process; Slurm writes in it when the job ends (unix time).
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        now_s, end = time.time(), environment.get(END, "")
        self._asked_s = time.monotonic()
        self._longest_s = 0.0
        self._total_s = int(end) - now_s if end.isdecimal() else float("inf")
        self._end_s = self._asked_s + self._total_s

    def near(self) -> bool:
        """Whether to save now."""
        now_s = time.monotonic()
        self._longest_s = max(self._longest_s, now_s - self._asked_s)
        self._asked_s = now_s
        left_s = self._end_s - now_s
        return left_s < min(2 * self._longest_s + SAFETY_S, _MOST * self._total_s)

    def ends(self) -> bool:
        """Whether the job's end is near enough for Slurm, too, to have told of it."""
        left_s = self._end_s - time.monotonic()
        return left_s < min(_NOTICE_S, 1.2 * _MOST * self._total_s)
