"""Text from outside without what a terminal would obey.

Names, settings, records and the errors of libraries hold whatever somebody wrote. An escape code
in them could clear the screen, set its title or colour what follows, and a mark of direction could
make a line read as another. In their place stands what they are, as Python writes it.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# All controls but newline and tab, the marks that turn the direction of reading, and halves of
# characters, which no stream can write.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """The text with everything that a terminal would obey written out.

    Example:
        >>> print(plain("a\\x1b[31mb"), plain("exe\\u202egpj"))
        a\\x1b[31mb exe\\u202egpj
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def duration(seconds: float) -> str:
    """A time as people say it.

    Example:
        >>> duration(42.3), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class PlainStream:
    """A stream on which everything is written as :func:`plain` has it.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        # Under this name rich looks for the stream that its own codes go to. Whoever hands text to
        # rich makes it plain before.
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write ``text``, plain."""
        self.rich_proxied_file.write(plain(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each of the lines, plain."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def with_codes(stream: TextIO) -> TextIO:
    """The stream for codes of our own, beside text that is plain already."""
    return stream.rich_proxied_file if isinstance(stream, PlainStream) else stream


@contextmanager
def plain_streams() -> Iterator[None]:
    """Let whatever is printed meanwhile, by whomever, be plain."""
    held = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", PlainStream(sys.stdout))
    sys.stderr = cast("TextIO", PlainStream(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = held
