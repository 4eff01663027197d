"""At which temperature should examples be weighted by their losses?

The weights are a softmax over the losses times alpha (per dB): above 0 hard mixtures count more,
below 0 easy ones, 0 is the plain mean.
"""

from collections.abc import Iterator

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
    trials=9,
    finalists=2,
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    alphas = [-0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0]
    yield f"reweighting.alpha={trial.suggest_categorical('reweighting.alpha', alphas):g}"
