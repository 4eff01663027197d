"""Which last activation bounds a separator's waveforms best?

On material that reaches full scale, half of the recordings clipped, so that the bounds matter
(``val/targets_beyond_bounds`` and ``val/outputs_beyond_bounds`` say how far).

Clipping only at evaluation leaves the gradient of an overshoot whole; tanh never reaches full
scale; sine and cosine fold overshoots back; a distribution over levels brings its own loss.
"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.choices import heads_for
from lightning_sep.sweep.definition import Sweep

HEADS = heads_for("separation")
ITS_OWN = {
    "mu_law_softmax": [
        "head.levels=16",  # what it decodes is their mean; more take longer to become narrow
        "head.temperature=0.1",
        "optimizer.learning_rate=0.02",
    ],
}

SWEEP = Sweep(
    question="Which last activation separates best?",
    settings=[
        "task=separation",
        "net=wave_unet_small",
        "data=full_scale",
        "examples.normalise=sources",
        "examples.segment_s=0.3",  # what a step takes grows with it, what the scores say hardly
        "examples.train=168",
        "examples.val=32",  # they cost every epoch, and the race takes three seeds at least
        "examples.batch_size=4",
        "optimizer.learning_rate=0.008",
        "plan=warmup_cosine",  # gets as far in two thirds of the steps of a constant rate
        "trainer.epochs=3",
    ],
    metric="val/si_sdr_improvement_db",
    direction="maximize",
    trials=len(HEADS),
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    head = trial.suggest_categorical("head", HEADS)
    yield f"head={head}"
    yield from ITS_OWN.get(head, [])
