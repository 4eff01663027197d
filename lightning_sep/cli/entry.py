"""From the command line to a command, and from its end to an exit code."""

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from lightning_sep import __version__
from lightning_sep.cli import (
    compare,
    completion,
    data,
    embed,
    evaluate,
    export,
    generate,
    init,
    leaderboard,
    logs,
    mirror,
    preflight,
    report,
    reproduce,
    scale,
    separate,
    status,
    stop,
    sweep,
    sync,
    train,
    verify,
    worker,
)
from lightning_sep.cli.command import PROGRAM, Command, Parser, Run
from lightning_sep.cli.output import fail
from lightning_sep.errors import ConfigError, LightningSepError
from lightning_sep.terminal import plain_streams

COMMANDS: tuple[Command, ...] = (
    train.COMMAND,
    sweep.COMMAND,
    preflight.COMMAND,
    status.COMMAND,
    stop.COMMAND,
    scale.COMMAND,
    logs.COMMAND,
    worker.COMMAND,
    report.COMMAND,
    leaderboard.COMMAND,
    compare.COMMAND,
    reproduce.COMMAND,
    export.COMMAND,
    verify.COMMAND,
    sync.COMMAND,
    mirror.COMMAND,
    data.COMMAND,
    evaluate.COMMAND,
    separate.COMMAND,
    generate.COMMAND,
    embed.COMMAND,
    init.COMMAND,
    completion.COMMAND,
)

_TOP = """\
Train audio models and compare their last layers: separation, autoregression, speaker verification.

    lightning-sep train head=clip_at_eval          one run, on generated audio, in a minute or so
    lightning-sep sweep --grid head=tanh,sine      every combination of a grid, one run each
    lightning-sep status                           what runs, waits, failed, and why
    lightning-sep leaderboard                      the runs, ranked
"""
# What other tools' options are called here.
_MANY = " Several values are a sweep: `lightning-sep sweep --grid head=tanh,sine`."
_INSTEAD = {
    "-m": _MANY,
    "--multirun": _MANY,
    "--cfg": " `--print-config` shows the composed settings.",
    "--print_config": " Did you mean '--print-config'?",
    "--resume": " The same command goes on by itself.",
}
# What the file system says of a place that somebody named, and that does not serve.
_PLACES = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
_FOLDERS = """\
Runs go to runs/ or LIGHTNING_SEP_HOME, data to data/ or LIGHTNING_SEP_DATA.
`lightning-sep COMMAND --help` explains a command with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    logging.raiseExceptions = False  # libraries' own logs fall silent on a full disk
    with plain_streams():
        return _answered(list(sys.argv[1:] if argv is None else argv))


def main_script() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _answered(given: list[str]) -> int:
    try:
        try:
            code = _run(given)
        except SystemExit as stop:  # argparse, after --help and --version
            code = stop.code if isinstance(stop.code, int) else 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # `lightning-sep status | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        if isinstance(error, LightningSepError):
            return fail(str(error), error.exit_code)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        from lightning_sep.faults import lacks_memory

        if lacks_memory(error):
            said = " ".join(str(error).split()) or "no room"
            return fail(f"not enough memory ({said}): ask for less at once, or of a smaller net", 2)
        if isinstance(error, OSError) and error.filename is not None and error.errno in _PLACES:
            return fail(f"{error.filename}: {error.strerror}; name another place", 2)
        return fail(f"{reason} (unexpected; run again with --debug for the traceback)", 1)


def _run(given: list[str]) -> int:
    # Not set_defaults: it would also reset what stands before the command, `--debug train`.
    defaults = argparse.Namespace(debug=False, config_dir=None, rest="")
    _refuse_unknown(given)
    parser, commands = _parser(_config_dir_in(given), given)
    arguments, unread = parser.parse_known_args(given, defaults)
    options = [one for one in unread if one.startswith("-")]
    if options or (unread and not hasattr(arguments, arguments.rest)):
        hint = _INSTEAD.get(options[0], "") if options else ""
        if options and not hint:
            from lightning_sep.settings.words import did_you_mean

            known = commands[arguments.command].options()
            hint = did_you_mean(options[0].partition("=")[0], known)
        if options and not hint and hasattr(arguments, arguments.rest):
            hint = " Settings have no dashes: `trainer.epochs=3`."
        raise ConfigError(
            f"unknown argument: {' '.join(options or unread)}.{hint} "
            f"See `{PROGRAM} {arguments.command} --help`"
        )
    if unread:  # settings may stand before and after options; argparse reads one stretch of them
        getattr(arguments, arguments.rest).extend(unread)
    handler: Run = arguments.handler
    return handler(arguments) or 0


def _refuse_unknown(given: Sequence[str]) -> None:
    """See that the first word is a command."""
    names = [command.name for command in COMMANDS]
    before = ""
    for word in given:
        if before != "--config-dir" and not word.startswith("-"):
            if word not in names:
                from lightning_sep.settings.words import nearest

                raise ConfigError(f"no command {word!r}.{nearest(word, names)}")
            return
        before = word


def parsers() -> dict[str, Parser]:
    """The parser of each command."""
    return _parser(None, ())[1]


def _parser(config_dir: str | None, given: Sequence[str]) -> tuple[Parser, dict[str, Parser]]:
    """The parser of all commands, and that of each.

    Args:
        config_dir: a folder with entries of the user's own, for the help.
        given: the words of the command line, for the help.
    """
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    common.add_argument(
        "--config-dir",
        type=Path,
        metavar="FOLDER",
        help="a folder with entries of your own, besides conf/ of the working folder",
    )
    parser = Parser(prog=PROGRAM, description=_TOP, epilog=_FOLDERS, parents=[common])
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )
    made_for = {}
    for command in COMMANDS:
        closing, instead = command.closing, command.instead
        made: Parser = commands.add_parser(
            command.name,
            help=command.brief,
            description=command.text,
            parents=[common],
            closing=None if closing is None else partial(closing, config_dir),
            instead=None if instead is None else partial(instead, config_dir, given),
        )
        made.set_defaults(handler=command.run)
        command.add(made, common)
        made_for[command.name] = made
    return parser, made_for


def _config_dir_in(given: Sequence[str]) -> str | None:
    """``--config-dir``, which help must know before arguments are read."""
    for number, one in enumerate(given):
        if one == "--config-dir" and number + 1 < len(given):
            return given[number + 1]
        if one.startswith("--config-dir="):
            return one.partition("=")[2]
    return None
