"""Which last activation predicts the next frame of a waveform best?

Scores are teacher-forced; the board also shows the free-running ones, where a head's bounds decide
whether errors grow.
"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.choices import heads_for
from lightning_sep.sweep.definition import Sweep

HEADS = heads_for("autoregression")
# A distribution has to become narrow before it says anything, which takes larger steps.
ITS_OWN = {
    "logistic_mixture": ["optimizer.learning_rate=0.01"],
    "mu_law_softmax": [
        "head.levels=16",  # what it decodes is their mean; more take longer, and say no more here
        "head.temperature=0.1",
        "optimizer.learning_rate=0.01",
    ],
}

SWEEP = Sweep(
    question="Which last activation predicts the next frame best?",
    settings=[
        "task=autoregression",
        "net=lstm_small",
        "examples.train=256",  # an epoch: as many steps with half of the validations
        "optimizer.learning_rate=0.005",
        "trainer.epochs=10",
    ],
    metric="val/r2",
    direction="maximize",
    trials=len(HEADS),
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    head = trial.suggest_categorical("head", HEADS)
    yield f"head={head}"
    yield from ITS_OWN.get(head, [])
