"""What a command is: its words, its arguments, and what it does."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from lightning_sep.errors import ConfigError

PROGRAM = "lightning-sep"

Run = Callable[[argparse.Namespace], int | None]


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line.

    Args:
        args: as for ``ArgumentParser``.
        closing: makes the end of its help when that is read.
        instead: makes what is said in the place of its help, as long as it says something.
        kwargs: as for ``ArgumentParser``.
    """

    def __init__(
        self,
        *args: Any,
        closing: Callable[[], str] | None = None,
        instead: Callable[[], str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._closing, self._instead = closing, instead

    def format_help(self) -> str:
        if self._instead is not None and (told := self._instead()):
            return f"{told}\n\n`{self.prog} --help` tells of the command itself\n"
        if self._closing is not None:
            self.epilog = self._closing()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def options(self) -> list[str]:
        """The options that it takes, as they are typed."""
        return [one for one in self._option_string_actions if one.startswith("--")]


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: the word on the command line.
        brief: half a line for the list of commands.
        text: what ``--help`` says, with examples.
        run: does it and returns the exit code; ``None`` is 0.
        add: adds its arguments; gets the parser and the options that all commands share.
        closing: the end of its help, for a folder of the user's own entries.
        instead: what it says of the settings that stand beside ``--help``, for the same folder.
    """

    name: str
    brief: str
    text: str
    run: Run
    add: Callable[[Parser, Parser], None]
    closing: Callable[[str | None], str] | None = None
    instead: Callable[[str | None, Sequence[str]], str] | None = None


def add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    """Let a command take settings, before and after its options."""
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=text)
    parser.set_defaults(rest="settings")


def tell_twice(settings: Sequence[str]) -> None:
    """Tell on stderr which of the settings that somebody typed give way to later ones."""
    given: dict[str, str] = {}
    for one in settings:
        key, equals, _ = one.partition("=")
        if equals and given.get(key, one) != one:
            print(f"{PROGRAM}: {given[key]} gives way to {one}", file=sys.stderr)
        given[key] = one


def count(text: str) -> int:
    """A whole number from 1, of an option."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return value


def number(text: str) -> int:
    """A whole number from 0, of an option."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 0 is needed")
    return int(text)


def seconds(text: str) -> float:
    """A duration above 0, of an option."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a positive number of seconds is needed")
    return value


def time_span(text: str) -> float:
    """Seconds of an option such as ``90s``, ``30min``, ``2h`` or ``1.5d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?", text.strip())
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a time such as 90s, 30min or 2h is needed")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2] or "s"]
