"""One way to check a setting: its name, the value it has, and what would work.

Settings arrive from YAML and the command line, where a word can stand in the place of a number;
without a check it would fail in the first step, far from its cause. A function refuses at once; a
class with many settings collects what is wrong (:class:`Arguments`) and tells it together.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lightning_sep.errors import ConfigError


def refusal(name: str, value: object, needed: str, *, meaning: str = "") -> ConfigError:
    """The error that refuses ``value``.

    Args:
        name: what the user calls the setting.
        value: what it is.
        needed: what would work, as a sentence: ``a whole number is needed``.
        meaning: what the setting does, where its name does not tell.

    Example:
        >>> refusal("alpha", "big", "a number is needed", meaning="per unit of loss")
        ConfigError("alpha = 'big': a number is needed (per unit of loss)")
    """
    return ConfigError(f"{name} = {value!r}: {needed}" + (f" ({meaning})" if meaning else ""))


def whole_number(
    name: str, value: object, *, at_least: int | None = 1, odd: bool = False, meaning: str = ""
) -> int:
    """``value`` if it is a whole number of at least ``at_least``, and ``odd`` where that matters.

    Raises:
        ConfigError: it is not.
    """
    # a bool is an int to Python, but nobody means `levels: true`
    one = value if isinstance(value, int) and not isinstance(value, bool) else None
    if one is None or (at_least is not None and one < at_least) or (odd and one % 2 == 0):
        kind = "an odd whole number" if odd else "a whole number"
        bound = "" if at_least is None else f" of at least {at_least}"
        raise refusal(name, value, f"{kind}{bound} is needed", meaning=meaning)
    return one


def finite_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    meaning: str = "",
) -> float:
    """``value`` as a float if it is a finite number within the bounds.

    Raises:
        ConfigError: it is not.
    """
    one = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number that no float holds
            one = float(value)
    if (
        not math.isfinite(one)
        or (above is not None and one <= above)
        or (at_least is not None and one < at_least)
        or (at_most is not None and one > at_most)
        or (below is not None and one >= below)
    ):
        bounds = {"above": above, "of at least": at_least, "of at most": at_most, "below": below}
        known = [f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None]
        needed = " ".join(["a finite number", " and ".join(known), "is needed"]).replace("  ", " ")
        raise refusal(name, value, needed, meaning=meaning)
    return one


def yes_or_no(name: str, value: object) -> bool:
    """``value`` if it is a truth value.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(value, bool):
        raise refusal(name, value, "true or false is needed")
    return value


def one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """``value`` if it is one of the words in ``known``.

    Raises:
        ConfigError: it is not.
    """
    if value not in known:
        raise refusal(name, value, f"known are {', '.join(known)}")
    return str(value)


class Arguments:
    """Collects what is wrong with the settings of one class.

    Args:
        owner: name of the class whose settings these are; the message starts with it.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.problems: list[str] = []

    def whole(self, name: str, value: object, *, at_least: int = 1, odd: bool = False) -> None:
        """Asks for a whole number, see :func:`whole_number`."""
        self._ask(whole_number, name, value, at_least=at_least, odd=odd)

    def number(self, name: str, value: object, *, low: float, below: float) -> None:
        """Asks for a number in ``[low, below)``."""
        self._ask(finite_number, name, value, at_least=low, below=below)

    def yes_or_no(self, name: str, value: object) -> None:
        """Asks for a truth value."""
        self._ask(yes_or_no, name, value)

    def one_of(self, name: str, value: object, known: tuple[str, ...]) -> None:
        """Asks for one of the words in ``known``."""
        self._ask(one_of, name, value, known)

    def refuse(self, name: str, value: object, needed: str) -> None:
        """Notes that ``name`` cannot have ``value``, and what would work."""
        self.problems.append(str(refusal(name, value, needed)))

    def check(self) -> None:
        """Raises what has been collected, if anything.

        Raises:
            ConfigError: at least one setting was refused; the message lists all of them.
        """
        if len(self.problems) == 1:
            raise ConfigError(f"{self.owner}: {self.problems[0]}")
        if self.problems:
            listed = "".join(f"\n    {problem}" for problem in self.problems)
            raise ConfigError(
                f"{len(self.problems)} settings of {self.owner} cannot be used:{listed}"
            )

    def _ask(self, check: Callable[..., object], *given: Any, **bounds: Any) -> None:
        try:
            check(*given, **bounds)
        except ConfigError as error:
            self.problems.append(str(error))
