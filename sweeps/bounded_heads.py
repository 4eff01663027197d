"""Which last activation bounds a separator's waveforms best?

Clipping only at evaluation leaves the gradient of an overshoot whole; tanh never reaches full
scale; sine and cosine fold overshoots back; a distribution over levels brings its own loss.
"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.choices import heads_for
from lightning_sep.sweep.definition import Sweep

HEADS = heads_for("separation")

SWEEP = Sweep(
    question="Which last activation separates best?",
    settings=[
        "task=separation",
        "net=wave_unet_small",
        "examples.segment_s=0.5",
        "examples.train=128",
        "optimizer.learning_rate=0.003",
        "trainer.epochs=12",
    ],
    metric="val/si_sdr_improvement_db",
    direction="maximize",
    trials=len(HEADS),
    finalists=2,
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    head = trial.suggest_categorical("head", HEADS)
    yield f"head={head}"
    if head == "mu_law_softmax":
        yield "head.levels=64"  # 256 levels take four times as long, minutes on a CPU
