"""The errors that a user can cause or must act on; each is one line, without a traceback."""

from typing import ClassVar


class LightningSepError(Exception):
    """Something went wrong in a way that its message explains."""

    exit_code: ClassVar[int] = 1


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class ConfigError(LightningSepError, ValueError):
    """A setting cannot be used; the message names it and what would work."""

    exit_code = 2


class DataError(LightningSepError, ValueError):
    """Audio or a manifest cannot be used; the message names the file and what would work."""

    exit_code = 2


class ArchiveError(LightningSepError, ValueError):
    """A board's archive is not as it was written; the message names the member."""

    exit_code = 2


class StorageError(LightningSepError):
    """The disk refused a write (full, quota, permission); what was there before is whole."""

    exit_code = 2


class NonFiniteLoss(LightningSepError):
    """Training left the finite numbers."""


class LeaseLost(LightningSepError):
    """Another process has taken over this run; this one must not write any more."""


class RankLost(LightningSepError):
    """A process that trained together with this one is gone; another attempt may have them all."""


class Busy(LightningSepError):
    """Another process works on this very run; the message says which."""


class Interrupted(LightningSepError):
    """The run was asked to stop; it goes on from its last checkpoint when started again."""


class NoRoom(LightningSepError):
    """No node became free while it was waited for; another time one may be."""

    exit_code = 75


class SweepError(LightningSepError):
    """A sweep could not do its work."""


class LightningSepWarning(UserWarning):
    """Something a user should know; the tests turn it into an error."""
