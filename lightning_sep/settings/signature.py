"""What a class accepts: settings are compared with the annotations of its constructor.

YAML and command lines bring plain values (numbers, text, lists, mappings), and nothing stops
``alpha: big`` from reaching a cluster. The signature of the class already says what fits, so it is
the only description of a setting: there is no second schema to keep in step. The comparison is
pydantic's, strict and as for JSON: a whole number fits ``float`` and a list fits a tuple, but no
text fits a number and no truth value does. It is imported when the first value is compared, since
help, ``status`` and a misspelt name need none of it: the import takes 0.06 s of CPU.
"""

import collections.abc
import inspect
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_EMPTY = inspect.Parameter.empty
_VALUES = (None, bool, int, float, str, types.NoneType, typing.Literal, *SEQUENCES, *MAPPINGS)
_REFUSED = object()


@cache
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


def is_open(argument: inspect.Parameter) -> bool:
    """Whether this is a ``**name``, which takes arguments of any name."""
    return argument.kind is argument.VAR_KEYWORD


def accepts(value: object, annotation: Any) -> bool:
    """Whether a plain value fits an annotation; what the annotation leaves open is accepted.

    A whole number fits ``float``; ``true`` fits neither ``int`` nor ``float``; NaN and infinity fit
    nothing, since records are JSON. A mapping with ``_target_`` stands for the object it describes.
    """
    return _read(value, annotation) is not _REFUSED


def normalised(value: object, annotation: Any) -> Any:
    """The one plain form of an accepted value, so that ``1`` and ``1.0`` make one run, not two.

    Whole numbers become floats where the class wants a float, and numbers become text where a
    choice is spelt like a number (``precision=32``).
    """
    return _normal(value, _read(value, annotation))


def converted(value: object, annotation: Any) -> Any:
    """The Python object that the annotation asks for: a ``Path`` for text, a tuple for a list."""
    read = _read(value, annotation)
    return value if read is _REFUSED else read


def wants_path(annotation: Any) -> bool:
    """Whether the annotation asks for a path, possibly among others."""
    annotation = plain(annotation)
    if is_union(annotation):
        return any(map(wants_path, typing.get_args(annotation)))
    return isinstance(annotation, type) and issubclass(annotation, PurePath)


def plain(annotation: Any) -> Any:
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


def is_union(annotation: Any) -> bool:
    """Whether an annotation allows one of several things."""
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _read(value: object, annotation: Any) -> Any:
    """The object that a plain value stands for, or ``_REFUSED``."""
    if isinstance(value, Mapping) and "_target_" in value:
        return value if _takes_object(annotation) else _REFUSED
    spelt = type(value) is int and str(value) in _choices(annotation)  # precision=32 for "32"
    for one in (value, str(value)) if spelt else (value,):
        try:
            read = _adapter(annotation).validate_json(json.dumps(one, allow_nan=False))
        except (TypeError, ValueError):
            continue
        if isinstance(read, bool) is isinstance(one, bool):  # True == 1, also as a choice
            return read
    return _REFUSED


def _adapter(annotation: Any) -> "TypeAdapter[Any]":
    try:
        return _kept_adapter(annotation)
    except TypeError:  # notes in an annotation may be of any kind, and then it cannot be looked up
        return _made_adapter(annotation)


def _made_adapter(annotation: Any) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter  # help needs none of it

    as_json = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    annotation = plain(annotation)
    if typing.get_origin(annotation) is collections.abc.Iterable:  # would be read only when used
        annotation = list[typing.get_args(annotation)]  # type: ignore[misc]
    try:
        return TypeAdapter(Any if annotation is _EMPTY else annotation, config=as_json)
    except PydanticUserError:  # a kind of annotation that says nothing of plain values
        return TypeAdapter(Any)


_kept_adapter = cache(_made_adapter)


def _takes_object(annotation: Any) -> bool:
    """Whether an object of some class fits; plain values are none."""
    annotation = plain(annotation)
    if is_union(annotation):
        return any(map(_takes_object, typing.get_args(annotation)))
    origin = typing.get_origin(annotation) or annotation
    return origin not in _VALUES and not wants_path(origin)


def _choices(annotation: Any) -> tuple[Any, ...]:
    annotation = plain(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if is_union(annotation):
        return tuple(one for member in typing.get_args(annotation) for one in _choices(member))
    return ()


def _normal(value: object, read: object) -> Any:
    """The plain form of ``value``, which was understood as ``read``."""
    if isinstance(value, Mapping) and isinstance(read, Mapping):
        return {key: _normal(element, read.get(key, element)) for key, element in value.items()}
    if isinstance(value, list | tuple):
        understood = read if isinstance(read, list | tuple) else value
        return [_normal(element, one) for element, one in zip(value, understood, strict=True)]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return read if is_number and isinstance(read, float | str) else value
