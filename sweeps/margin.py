"""Which margin of the divergence hinge tells speakers apart best?

Beyond the margin two speakers are far enough apart and pull no more: small margins forgive early,
large ones keep pushing pairs that are already told apart.
"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    question="Which margin (nats) tells speakers apart best?",
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
    trials=6,
    finalists=2,
    final_seeds=5,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    margin = trial.suggest_categorical("loss.margin", [0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    yield f"loss.margin={margin:g}"
