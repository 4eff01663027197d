"""Names of files and people as they may be shown."""

import os
from collections.abc import Sequence
from pathlib import Path

_EXAMPLES = 3


def shown(name: str | Path) -> str:
    """A name on one line: what cannot be printed, or turns the reading direction, is escaped.

    Example:
        >>> print(shown("a\\nb"), shown("caf\\udce9.wav"))
        a\\nb caf\\xe9.wav
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(name: str) -> bool:
    """Whether a file's name can be written down as UTF-8; not every name on a disk can.

    Example:
        >>> is_text("caf\\xe9.wav"), is_text("caf\\udce9.wav")
        (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in name)


def some(examples: Sequence[str]) -> str:
    """Up to three of the examples, and how many more there are.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = len(examples) - _EXAMPLES
    return ", ".join(examples[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
