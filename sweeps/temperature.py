"""At which temperature should examples be weighted by their losses?

The weights are a softmax over the losses times alpha (per dB): above 0 hard mixtures count more,
below 0 easy ones, 0 is the plain mean. TPE proposes; trials below the median so far end early.
"""

from collections.abc import Iterator

from optuna.pruners import MedianPruner
from optuna.trial import BaseTrial

from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    question="At which temperature should mixtures be weighted by their losses?",
    settings=[
        "task=separation",
        "net=wave_unet_small",
        "reweighting=loss_softmax",
        "examples.segment_s=0.5",
        "examples.train=128",
        "optimizer.learning_rate=0.003",
        "trainer.epochs=12",
    ],
    metric="val/si_sdr_improvement_db",
    direction="maximize",
    trials=12,
    finalists=2,
    final_seeds=5,
    pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=4),
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    yield f"reweighting.alpha={trial.suggest_float('reweighting.alpha', -0.3, 1.0):.4g}"
