"""How settings are talked about: what an annotation wants, what was probably meant."""

import types
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.signature import MAPPINGS, SEQUENCES, is_union, plain

_NAMES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "true or false values"),
    str: ("text", "texts"),
    dict: ("a mapping", "mappings"),
    list: ("a list", "lists"),
}


def needs(annotation: Any) -> str:
    """The annotation in words.

    Example:
        >>> needs(float | None)
        'a finite number or null'
    """
    return _words(annotation, plural=False)


# What other tools call what is called otherwise here.
_ELSEWHERE = {
    "model": "net", "network": "net", "backbone": "net", "activation": "head",
    "criterion": "loss", "dataset": "data", "datamodule": "data", "optim": "optimizer",
    "scheduler": "plan", "lr_scheduler": "plan", "weighting": "reweighting", "logger": "tracking",
    "lr": "learning_rate", "wd": "weight_decay", "max_epochs": "epochs", "bs": "batch_size",
    "accelerator": "device", "gradient_clip_val": "gradient_clip", "num_workers": "workers",
    "random_seed": "seed", "hparams_search": "sweep", "tune": "sweep", "fit": "train",
    "test": "evaluate", "predict": "separate", "ls": "status", "ps": "status", "resume": "train",
}  # fmt: skip


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`` Did you mean 'tanh'?``, as it is added to a message; empty where nothing is near.

    Example:
        >>> did_you_mean("tahn", ["sine", "tanh"]), did_you_mean("lr", ["learning_rate"])
        (" Did you mean 'tanh'?", " Did you mean 'learning_rate'?")
    """
    close = closest(name, known)
    return f" Did you mean {close!r}?" if close else ""


def closest(name: str, known: Sequence[str]) -> str | None:
    """The known name that was probably meant."""
    if _ELSEWHERE.get(name) in known:
        return _ELSEWHERE[name]
    return next(iter(get_close_matches(name, known, n=1)), None)


def nearest(name: str, known: Sequence[str]) -> str:
    """`` Did you mean 'tanh'? Known: ...``, as it is added to a message."""
    return f"{did_you_mean(name, known)} Known: {', '.join(known) if known else 'none'}"


def together(problems: Sequence[str]) -> ConfigError:
    """One error that tells all problems, each once."""
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        return ConfigError(problems[0])
    listed = "".join(f"\n    {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} settings cannot be used:{listed}")


def _words(annotation: Any, *, plural: bool) -> str:
    annotation = plain(annotation)
    if is_union(annotation):
        words = [_words(member, plural=plural) for member in typing.get_args(annotation)]
        return " or ".join(dict.fromkeys(words))
    if annotation in (None, types.NoneType):
        return "null"
    origin = typing.get_origin(annotation) or annotation
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(one) for one in typing.get_args(annotation))
    if annotation in _NAMES:
        return _NAMES[annotation][plural]
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return "paths" if plural else "a path"
    inner = typing.get_args(annotation)
    if origin in SEQUENCES:
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            count, kind = f"{len(inner)} ", _words(inner[0], plural=True)
        else:
            count, kind = "", _words(inner[0], plural=True) if inner else "values"
        return f"lists of {count}{kind}" if plural else f"a list of {count}{kind}"
    if origin in MAPPINGS:
        kind = f" of {_words(inner[1], plural=True)}" if len(inner) == 2 else ""
        return ("mappings" if plural else "a mapping") + kind
    name = getattr(origin, "__name__", str(origin))
    return f"entries with _target_ ({name})" if plural else f"an entry with _target_ ({name})"
