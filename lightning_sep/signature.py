"""What a class accepts: settings are compared with the annotations of its constructor.

YAML and command lines bring plain values (numbers, text, lists, mappings), and nothing stops
``alpha: big`` from reaching a cluster. The signature of the class already says what fits, so it is
the only description of a setting: there is no second schema to keep in step.
"""

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

_EMPTY = inspect.Parameter.empty
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_NAMES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "true or false values"),
    str: ("text", "texts"),
    dict: ("a mapping", "mappings"),
    list: ("a list", "lists"),
}


def arguments(target: type) -> dict[str, inspect.Parameter] | None:
    """The constructor's arguments by name, annotations resolved; ``None`` when it tells nothing.

    Arguments that cannot be given by name are left out; a ``**name`` argument is kept.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # some classes written in C have no signature
        return None
    try:
        hints = typing.get_type_hints(target.__init__)  # type: ignore[misc]
    except Exception:  # an annotation that exists only for type checkers cannot be resolved
        hints = {}
    unusable = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in unusable:
            continue
        annotation = hints.get(name, parameter.annotation)
        unresolved = isinstance(annotation, str)
        found[name] = parameter.replace(annotation=_EMPTY if unresolved else annotation)
    return found


def accepts(value: object, annotation: Any) -> bool:
    """Whether a plain value fits an annotation; what the annotation leaves open is accepted.

    A whole number fits ``float``; ``true`` fits neither ``int`` nor ``float``; NaN and infinity fit
    nothing, since records are JSON. A mapping with ``_target_`` stands for the object it describes.
    """
    annotation = _plain(annotation)
    if not _is_finite(value):
        return False
    if annotation in (_EMPTY, Any, object) or isinstance(annotation, typing.TypeVar):
        return True
    if annotation in (None, types.NoneType):
        return value is None
    if _is_union(annotation):
        return any(accepts(value, member) for member in typing.get_args(annotation))
    origin = typing.get_origin(annotation) or annotation
    if origin is typing.Literal:
        return _literal(value, annotation) is not None or (
            value is None and None in typing.get_args(annotation)
        )
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    if isinstance(value, Mapping) and "_target_" in value:
        return origin not in (*_SEQUENCES, *_MAPPINGS)
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return isinstance(value, str)
    if origin in _SEQUENCES:
        return isinstance(value, list | tuple) and _elements_fit(value, annotation)
    if origin in _MAPPINGS:
        if not isinstance(value, Mapping):
            return False
        _, inner = (typing.get_args(annotation) or (Any, Any))[:2]
        return all(accepts(element, inner) for element in value.values())
    return not isinstance(origin, type)  # a class needs an object, which a plain value is not


def normalised(value: object, annotation: Any) -> Any:
    """The one plain form of an accepted value, so that ``1`` and ``1.0`` make one run, not two.

    Whole numbers become floats where the class wants a float, and numbers become text where a
    choice is spelt like a number (``precision=32``).
    """
    annotation = _plain(annotation)
    if _is_union(annotation):
        members = [_plain(member) for member in typing.get_args(annotation)]
        fitting = [member for member in members if accepts(value, member)]
        if isinstance(value, int) and int in members:
            return value
        return normalised(value, fitting[0]) if fitting else value
    if typing.get_origin(annotation) is typing.Literal:
        choice = _literal(value, annotation)
        return value if choice is None else choice
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    origin = typing.get_origin(annotation) or annotation
    if isinstance(value, list | tuple):
        if origin not in _SEQUENCES:
            return list(value)
        inner = _element_annotations(annotation, len(value))
        return [normalised(element, one) for element, one in zip(value, inner, strict=True)]
    if isinstance(value, Mapping) and origin in _MAPPINGS and "_target_" not in value:
        _, inner_value = (typing.get_args(annotation) or (Any, Any))[:2]
        return {key: normalised(element, inner_value) for key, element in value.items()}
    return value


def converted(value: object, annotation: Any) -> Any:
    """The Python object that the annotation asks for: a ``Path`` for text, a tuple for a list."""
    annotation = _plain(annotation)
    if _is_union(annotation):
        fitting = [one for one in typing.get_args(annotation) if accepts(value, one)]
        return converted(value, fitting[0]) if fitting else value
    origin = typing.get_origin(annotation) or annotation
    if isinstance(value, str) and isinstance(origin, type) and issubclass(origin, PurePath):
        return Path(value)
    if isinstance(value, list) and origin in (tuple, set, frozenset):
        return origin(value)
    return value


def needs(annotation: Any) -> str:
    """The annotation in words: ``a number or null``."""
    return _words(annotation, plural=False)


def _words(annotation: Any, *, plural: bool) -> str:
    annotation = _plain(annotation)
    if _is_union(annotation):
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
    if origin in _SEQUENCES:
        inner = typing.get_args(annotation)
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            count, kind = f"{len(inner)} ", _words(inner[0], plural=True)
        else:
            count, kind = "", _words(inner[0], plural=True) if inner else "values"
        return f"lists of {count}{kind}" if plural else f"a list of {count}{kind}"
    if origin in _MAPPINGS:
        inner = typing.get_args(annotation)
        kind = f" of {_words(inner[1], plural=True)}" if len(inner) == 2 else ""
        return ("mappings" if plural else "a mapping") + kind
    name = getattr(origin, "__name__", str(origin))
    return f"entries with _target_ ({name})" if plural else f"an entry with _target_ ({name})"


def _plain(annotation: Any) -> Any:
    """Without the wrappers that say nothing about the value (``Annotated``, ``NewType``, ...)."""
    while True:
        if typing.get_origin(annotation) in (typing.Annotated, typing.Final, typing.ClassVar):
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # Python 3.12: type Seconds = float
            annotation = annotation.__value__
        else:
            return annotation


def _is_finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _literal(value: object, annotation: Any) -> Any:
    """The choice that ``value`` names: itself, or the text that a number or boolean spells."""
    choices = typing.get_args(annotation)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    spelt = str(value) if isinstance(value, int) and not isinstance(value, bool) else None
    return spelt if spelt in choices else None


def _element_annotations(annotation: Any, count: int) -> list[Any]:
    inner = typing.get_args(annotation)
    if not inner:
        return [Any] * count
    fixed = typing.get_origin(annotation) is tuple and inner[-1] is not Ellipsis
    return list(inner) if fixed else [inner[0]] * count


def _elements_fit(value: list[Any] | tuple[Any, ...], annotation: Any) -> bool:
    inner = _element_annotations(annotation, len(value))
    return len(inner) == len(value) and all(map(accepts, value, inner))
