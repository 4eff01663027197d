"""Which temperature of the embedding's softmax tells speakers apart best?

Below 1 an embedding puts its mass on few dimensions and divergences grow; above 1 it is flat and
divergences shrink, so the best margin may move with it.
"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    question="Which softmax temperature tells speakers apart best, and at which margin?",
    settings=[
        "task=verification",
        "net=blstm_small",
        "head=softmax",
        "loss=kl_hinge",
        "optimizer.learning_rate=0.003",
        "trainer.epochs=10",
    ],
    metric="val/equal_error_rate",
    direction="minimize",
    trials=8,
    finalists=2,
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    temperature = trial.suggest_categorical("head.temperature", [0.5, 1.0, 2.0, 4.0])
    yield f"head.temperature={temperature:g}"
    yield f"loss.margin={trial.suggest_categorical('loss.margin', [1.0, 2.0]):g}"
