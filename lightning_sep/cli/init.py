"""`lightning-sep init`: a folder to work in."""

import argparse
from pathlib import Path

from lightning_sep.cli.command import Command, Parser
from lightning_sep.errors import ConfigError
from lightning_sep.fsio import storage_errors

_TEXT = """\
Write what a study of one's own begins with into the working folder: a head in a package of your
own, its entry in conf/, and a sweep that compares it. Nothing that is there is overwritten.

example:
    lightning-sep init my_parts
    LIGHTNING_SEP_PLUGINS=my_parts lightning-sep sweep sweeps/my_heads.py
"""
_HEAD = '''\
"""Softsign: bounded like tanh, with tails that fade as 1/a² instead of exponentially."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class Softsign(WaveformHead):
    """``y = a / (1 + |a|)`` (Turian, Bergstra and Bengio, NAACL 2009)."""

    def training_view(self, raw: Tensor) -> Tensor:
        """``[..., 1]`` in, ``[...]`` out."""
        value = raw[..., 0]
        return value / (1 + value.abs())

    def decoded(self, raw: Tensor) -> Tensor:
        """The same; ±1 is approached, never reached."""
        return self.training_view(raw)
'''
_ENTRY = """\
# y = a / (1 + |a|); no settings
_target_: {package}.softsign.Softsign
"""
_SWEEP = '''\
"""Does my own head predict the next frame better than tanh?"""

from collections.abc import Iterator

from optuna.trial import BaseTrial

from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    question="Does softsign predict the next frame better than tanh?",
    settings=["task=autoregression", "net=lstm_small", "trainer.epochs=10"],
    metric="val/r2",
    direction="maximize",
    trials=4,
)


def overrides(trial: BaseTrial) -> Iterator[str]:
    # Named as the settings, so that every tool that reads the journal shows them so.
    yield f"head={trial.suggest_categorical('head', ['tanh', 'softsign'])}"
    rate = trial.suggest_categorical("optimizer.learning_rate", [0.001, 0.003])
    yield f"optimizer.learning_rate={rate}"
'''


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument(
        "package", nargs="?", default="my_parts", help="name of your package (default: my_parts)"
    )


def _run(arguments: argparse.Namespace) -> int | None:
    package = arguments.package
    if not package.isidentifier() or package in ("lightning_sep", "torch"):
        raise ConfigError(f"{package!r} cannot be the name of a package of yours; such as my_parts")
    files = {
        Path("conf/head/softsign.yaml"): _ENTRY.format(package=package),
        Path(package) / "__init__.py": "",
        Path(package) / "softsign.py": _HEAD,
        Path("sweeps/my_heads.py"): _SWEEP,
    }
    there = [str(path) for path in files if path.exists()]
    if there:
        raise ConfigError(f"{', '.join(there)} is there already: nothing was written")
    for path, text in files.items():
        with storage_errors(path.absolute()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        print(path)
    print(f"next: LIGHTNING_SEP_PLUGINS={package} lightning-sep sweep sweeps/my_heads.py")
    return None


COMMAND = Command("init", "begin a study with parts of your own", _TEXT, _run, _add)
