"""Rooms that can be called: ``lightning_sep.sweep(...)`` beside ``lightning_sep.sweep.report``."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A package of ours whose call is the function of its name in :mod:`lightning_sep.api`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module("lightning_sep.api"), name)(*args, **kwargs)


def make_callable(name: str) -> None:
    """Let the package of this name be called."""
    sys.modules[name].__class__ = CallableRoom
