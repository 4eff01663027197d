"""Which last activation reaches its bound, and how soon?

Every sample is 1: nothing has to be known to predict the next one, so what a score lacks of 1 is
the head's alone. tanh comes closer for ever and never arrives; a sine has its peak there; what is
clipped stops learning once it is beyond.
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
        "head.levels=16",  # the highest of which is 1; more take longer
        "head.temperature=0.1",
        "optimizer.learning_rate=0.01",
    ],
}

SWEEP = Sweep(
    question="Which last activation reaches full scale?",
    settings=[
        "task=autoregression",
        "net=lstm_small",
        "examples=ones",
        "examples.train=128",
        "optimizer.learning_rate=0.005",
        "trainer.epochs=5",
    ],
    metric="val/r2",
    direction="maximize",
    trials=len(HEADS),
    finalists=2,
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    head = trial.suggest_categorical("head", HEADS)
    yield f"head={head}"
    yield from ITS_OWN.get(head, [])
