"""A task of a user's own whose processes do not agree on what they have measured."""

from typing import Any

from torch import distributed as dist

from lightning_sep.tasks.evaluation import Evaluation
from lightning_sep.tasks.separation import Separation, SeparationEvaluation


class Disagreeing(Separation):
    """Separation that gets better in one process, epoch by epoch, and worse in the other."""

    def evaluation(self, stage: str) -> Evaluation:
        return _Evaluation(self)


class _Evaluation(SeparationEvaluation):
    def finish(self) -> tuple[dict[str, float], dict[str, list[Any]]]:
        metrics, values = super().finish()
        task: Any = self.task
        sign = 1 if not dist.is_initialized() or dist.get_rank() == 0 else -1
        return metrics | {task.primary: float(sign * task.current_epoch)}, values
