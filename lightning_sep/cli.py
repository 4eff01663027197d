"""The command ``lightning-sep``: reads arguments, calls what does the work, prints, exits.

Only this module prints errors and decides exit codes. Nothing heavy is imported before a command
runs, so help answers at once.
"""

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lightning_sep import __version__
from lightning_sep.errors import ConfigError, Interrupted, LightningSepError
from lightning_sep.homes import data_home, runs_home
from lightning_sep.memory import keep_freed_memory

PROGRAM = "lightning-sep"

_TOP = """\
Train audio models and compare their last layers: separation, autoregression, speaker verification.

    lightning-sep train head=clip_at_eval          one run, on generated audio, in a minute or so
    lightning-sep sweep --grid head=tanh,sine      every combination of a grid, one run each
    lightning-sep status                           what runs, waits, failed, and why
    lightning-sep leaderboard                      the runs, ranked
"""
_FOLDERS = """\
Runs go to runs/ or LIGHTNING_SEP_HOME, data to data/ or LIGHTNING_SEP_DATA.
`lightning-sep COMMAND --help` explains a command with examples.
"""
_TRAIN = """\
Train and test one run. Settings are given as GROUP=ENTRY (a file of conf/GROUP) and
GROUP.SETTING=VALUE. The same settings are never trained twice: a finished run is shown from its
record, a stopped one goes on from its last checkpoint.

examples:
    lightning-sep train                                     separation with a small Wave-U-Net
    lightning-sep train head=sine trainer.epochs=3          another head, three epochs
    lightning-sep train task=autoregression seed=1          another task brings its own defaults
    lightning-sep train reweighting=loss_softmax reweighting.alpha=0.1
    lightning-sep train net=sudo_rm_rf_small --print-model  layers, shapes, parameters; no training

On a CPU a run computes with trainer.threads threads, one unless asked, whatever the environment
says: the number of threads changes the last digits of a result, so it is part of the run's id.
"""
_SWEEP = """\
Launch a sweep, or go on with it: the same command resumes. A sweep is a Python file with a value
SWEEP and a function overrides(trial), or a grid given here. Every configuration is trained once.

examples:
    lightning-sep sweep sweeps/bounded_heads.py                   a question asked in a file
    lightning-sep sweep sweeps/bounded_heads.py trainer.epochs=2  the same, with a setting for all
    lightning-sep sweep --grid head=tanh,sine,hard_clip           every entry once
    lightning-sep sweep --grid reweighting=loss_softmax reweighting.alpha=0,0.1,0.3 seed=0,1
"""
_STATUS = """\
What runs, waits, is finished or failed, and why. Without a name: all sweeps, newest first.

examples:
    lightning-sep status
    lightning-sep status bounded_heads --json     one JSON document on stdout
"""
_STOP = """\
Ask the workers of a sweep to save and stop. The sweep goes on when it is launched again.

example:
    lightning-sep stop bounded_heads
"""
_WORKER = """\
Take trials of a sweep until its budget is spent. `lightning-sep sweep` starts workers by itself;
this is what each of them runs, and what a batch job of your own may run as well.

It leaves with 0 when nothing is left to do, 2 when its input or the disk is refused, and 75 when
work is left that another process is to go on with: after SIGTERM or SIGUSR1, when it has waited
for the disk in vain (LIGHTNING_SEP_WAIT_S, 600 s), or when it can be trusted no more.

example:
    lightning-sep worker bounded_heads
"""
_LEADERBOARD = """\
The runs, ranked by their board's metric. Without a name: every board that has runs.

examples:
    lightning-sep leaderboard
    lightning-sep leaderboard bounded_heads --json            one JSON document on stdout
    lightning-sep leaderboard --html leaderboard.html      one file that needs no network
"""
_DATA = """\
Corpora: what is known, what is prepared, whether it is whole.

examples:
    lightning-sep data list
    lightning-sep data prepare esc10 --source ~/audio/esc10
    lightning-sep data prepare folder --source ~/audio/dogs data.sample_rate=16000
    lightning-sep data verify esc10
"""
_SEPARATE = """\
Separate recordings with a trained run. RUN is a run id or a run's folder.

example:
    lightning-sep separate 3f9a1c2e77aa mixture.wav --out separated/
"""
_GENERATE = """\
Let a trained autoregressive run make audio. RUN is a run id or a run's folder.

examples:
    lightning-sep generate 3f9a1c2e77aa --seconds 4 --seed 1 --out tone.wav
    lightning-sep generate 3f9a1c2e77aa --start prelude.flac --out continued.wav
"""
_EMBED = """\
Speaker embeddings of recordings, by a trained run. RUN is a run id or a run's folder.

example:
    lightning-sep embed 3f9a1c2e77aa anna.wav ben.wav --out vectors.json
"""


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and whose epilog is made when it is read."""

    def __init__(self, *args: Any, closing: Callable[[], str] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._closing = closing

    def format_help(self) -> str:
        if self._closing is not None:
            self.epilog = self._closing()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _run(given)
        except SystemExit as stop:  # argparse, after --help and --version
            code = stop.code if isinstance(stop.code, int) else 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `lightning-sep status | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        if isinstance(error, LightningSepError):
            return _fail(str(error), error.exit_code)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"{reason} (unexpected; run again with --debug for the traceback)", 1)


def main_script() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _run(given: list[str]) -> int:
    # Not set_defaults: it would also reset what stands before the command, `--debug train`.
    defaults = argparse.Namespace(debug=False, config_dir=None, rest="")
    arguments, unread = _parser(_config_dir_in(given)).parse_known_args(given, defaults)
    options = [one for one in unread if one.startswith("-")]
    if options or (unread and not hasattr(arguments, arguments.rest)):
        raise ConfigError(
            f"unknown argument: {' '.join(options or unread)}; "
            f"see `{PROGRAM} {arguments.command} --help`"
        )
    if unread:  # settings may stand before and after options; argparse reads one stretch of them
        getattr(arguments, arguments.rest).extend(unread)
    handler: Callable[[argparse.Namespace], int | None] = arguments.handler
    return handler(arguments) or 0


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return code


def _parser(config_dir: str | None) -> _Parser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    common.add_argument(
        "--config-dir",
        type=Path,
        metavar="FOLDER",
        help="a folder with entries of your own, besides conf/ of the working folder",
    )
    parser = _Parser(prog=PROGRAM, description=_TOP, epilog=_FOLDERS, parents=[common])
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )

    def command(
        name: str, brief: str, text: str, handler: Callable[[argparse.Namespace], int | None]
    ) -> _Parser:
        lists = _choices_text if name in ("train", "sweep") else None
        made: _Parser = commands.add_parser(
            name,
            help=brief,
            description=text,
            parents=[common],
            closing=None if lists is None else lambda: lists(config_dir),
        )
        made.set_defaults(handler=handler)
        return made

    train = command("train", "train and test one run", _TRAIN, _train)
    _add_settings(train, "settings of the run: GROUP=ENTRY, GROUP.SETTING=VALUE")
    train.add_argument("--print-model", action="store_true", help="show the net and stop")
    train.add_argument("--json", action="store_true", help="print the run's record as JSON")

    sweep = command("sweep", "launch a sweep, or go on with it", _SWEEP, _sweep)
    _add_settings(sweep, "a sweep's file (.py), and settings for all of its runs")
    sweep.add_argument("--grid", action="store_true", help="try all combinations of a=1,2 b=3,4")
    sweep.add_argument("--name", help="name of the sweep's folder (default: from the file or grid)")
    sweep.add_argument("--trials", type=_count, metavar="N", help="trials in all")
    sweep.add_argument("--workers", type=_count, metavar="N", help="processes (default: per core)")

    status = command("status", "what runs, waits, failed, and why", _STATUS, _status)
    status.add_argument("sweep", nargs="?", help="name of a sweep (default: all)")
    status.add_argument("--json", action="store_true", help="one JSON document on stdout")

    stop = command("stop", "ask a sweep's workers to save and stop", _STOP, _stop)
    stop.add_argument("sweep", help="name of the sweep")

    worker = command("worker", "take trials of a sweep", _WORKER, _worker)
    worker.add_argument("sweep", help="name of the sweep, or names joined by commas")

    board = command("leaderboard", "the runs, ranked", _LEADERBOARD, _leaderboard)
    board.add_argument("board", nargs="?", help="name of a board (default: all)")
    board.add_argument("--json", action="store_true", help="one JSON document on stdout")
    board.add_argument("--html", type=Path, metavar="PATH", help="write one self-contained page")

    _add_data(command("data", "list, prepare and verify corpora", _DATA, _data_list), common)
    _add_use(command)
    return parser


def _add_settings(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=text)
    parser.set_defaults(rest="settings")


def _add_data(data: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    show = actions.add_parser("list", help="what is known and what is prepared", parents=[common])
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_data_list)
    prepare = actions.add_parser("prepare", help="manifests and decoded audio", parents=[common])
    prepare.add_argument("name", help="corpus (see `lightning-sep data list`)")
    _add_settings(prepare, "settings of the data: data.sample_rate=16000")
    prepare.add_argument("--source", type=Path, metavar="FOLDER", help="where its audio lies")
    prepare.add_argument(
        "--keep", action="store_true", help="take clipped and other odd files: data.keep=true"
    )
    prepare.set_defaults(handler=_data_prepare)
    verify = actions.add_parser("verify", help="is every file as it was?", parents=[common])
    verify.add_argument("name", help="corpus (see `lightning-sep data list`)")
    verify.set_defaults(handler=_data_verify)


def _add_use(command: Callable[..., _Parser]) -> None:
    separate = command("separate", "separate recordings with a run", _SEPARATE, _separate)
    generate = command("generate", "make audio with a run", _GENERATE, _generate)
    embed = command("embed", "speaker embeddings by a run", _EMBED, _embed)
    for parser in (separate, generate, embed):
        parser.add_argument("run", metavar="RUN", help="run id or folder")
    for parser in (separate, embed):
        parser.add_argument("files", nargs="+", metavar="FILE", help="audio files")
        parser.set_defaults(rest="files")
    separate.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    generate.add_argument("--out", type=Path, required=True, metavar="FILE", help="audio to write")
    generate.add_argument("--seconds", type=_seconds, default=2.0, help="length (default: 2)")
    generate.add_argument("--start", type=Path, metavar="FILE", help="a recording to go on from")
    generate.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    embed.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="vectors to write: .json or .npz"
    )


def _train(arguments: argparse.Namespace) -> int | None:
    _ready_process(_threads_in(arguments.settings))
    from lightning_sep.settings import compose

    settings = compose(arguments.settings, arguments.config_dir)
    from lightning_sep import experiment

    if arguments.print_model:
        print(experiment.print_model(settings))
        return None
    try:
        with _stopped_by_signals() as should_stop:
            result = experiment.run(
                settings, home=runs_home(), purpose="single", should_stop=should_stop
            )
    except (Interrupted, SystemExit) as stopped:  # Lightning leaves a loop so on SIGTERM
        said = str(stopped) if isinstance(stopped, Interrupted) else "stopped on request"
        code = 130 if should_stop.signal == signal.SIGINT else 1
        return _fail(f"{said}; the same command goes on from the last checkpoint", code)
    if arguments.json:
        print(json.dumps(result.record, indent=2))
        return None
    print(f"run {result.run_id} {result.state}: {result.folder}")
    for name, value in _headline(result.record):
        print(f"    {name:<36} {value:.6g}")
    return None


def _sweep(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    files = [one for one in arguments.settings if one.endswith(".py") and "=" not in one]
    overrides = [one for one in arguments.settings if one not in files]
    if not files and not arguments.grid:
        raise ConfigError("a sweep's file or --grid is needed; see `lightning-sep sweep --help`")
    return commands.launch(
        files=files,
        overrides=overrides,
        grid=arguments.grid,
        workers=arguments.workers,
        trials=arguments.trials,
        name=arguments.name,
        home=runs_home(),
        config_dir=arguments.config_dir,
    )


def _status(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    return commands.status(sweep=arguments.sweep, json=arguments.json, home=runs_home())


def _stop(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    return commands.stop(sweep=arguments.sweep, home=runs_home())


def _worker(arguments: argparse.Namespace) -> int | None:
    _ready_process(os.environ.get("OMP_NUM_THREADS", "1"))  # as its launcher chose
    from lightning_sep.sweep import worker

    return worker.main(arguments.sweep.split(","), runs_home())


def _leaderboard(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.leaderboard import commands

    return commands.leaderboard(
        arguments.board, home=runs_home(), as_json=arguments.json, out=arguments.html
    )


def _data_list(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    corpora = commands.list_corpora(data_home())
    if arguments.json:
        print(json.dumps(corpora, indent=2))
    else:
        shown = ("name", "prepared", "hours", "sample_rate", "description")
        print(_table([{name: one.get(name) for name in shown} for one in corpora]))
    return None


def _data_prepare(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    settings = [*arguments.settings, *(["data.keep=true"] if arguments.keep else [])]
    told = commands.prepare(arguments.name, arguments.source, data_home(), _progress, settings)
    print(f"{arguments.name} is prepared in {data_home()}")
    for name, value in told.items():
        print(f"    {name:<16} {_cell(value)}")
    return None


def _data_verify(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    commands.verify(arguments.name, data_home(), _progress)
    print(f"{arguments.name} in {data_home()} is whole")
    return None


def _separate(arguments: argparse.Namespace) -> int | None:
    _ready_process()
    from lightning_sep import use

    _tell(use.separate(arguments.run, [Path(one) for one in arguments.files], arguments.out))
    return None


def _generate(arguments: argparse.Namespace) -> int | None:
    _ready_process()
    from lightning_sep import use

    _tell(
        use.generate(
            arguments.run,
            seconds=arguments.seconds,
            out=arguments.out,
            start=arguments.start,
            seed=arguments.seed,
        )
    )
    return None


def _embed(arguments: argparse.Namespace) -> int | None:
    _ready_process()
    from lightning_sep import use

    _tell(use.embed(arguments.run, [Path(one) for one in arguments.files], arguments.out))
    return None


def _threads_in(settings: Sequence[str]) -> str:
    """The number of threads that a command's settings ask for; wrong ones are refused later."""
    asked = [one.partition("=")[2] for one in settings if one.startswith("trainer.threads=")]
    return asked[-1] if asked and asked[-1].isdecimal() else "1"


def _ready_process(threads: str = "1") -> None:
    """What must be set before torch is imported, which reads it once.

    The number of threads changes the last bits of a result, so it is what the settings say, never
    what the environment happens to hold.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads must not take the core
    keep_freed_memory()


class _Stop:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        print(f"{PROGRAM}: saving, then stopping (Ctrl-C again: at once)", file=sys.stderr)


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    """Let Ctrl-C and SIGTERM ask for a checkpoint and an orderly end."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python hands signals to the main thread alone
        return
    held = {
        number: signal.signal(number, stop.receive) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def _choices_text(config_dir: str | None) -> str:
    """What each group can be set to, read from the folders: a new entry shows up by itself."""
    from lightning_sep.settings import entries, groups

    try:
        listed = [(group, entries(group, config_dir)) for group in groups()]
    except ConfigError as error:
        return str(error)
    width = max(len(group) for group, _ in listed) + 1
    lines = ["settings to choose from (files of conf/, yours included):"]
    for group, names in sorted(listed, key=lambda pair: (pair[0] != "task", pair[0])):
        lines += _wrapped(f"    {group + '=':<{width}} ", names)
    return "\n".join(lines)


def _wrapped(start: str, words: Sequence[str], width: int = 96) -> list[str]:
    lines, line = [], start
    for word in words:
        if len(line) + len(word) > width:
            lines.append(line.rstrip())
            line = " " * len(start)
        line += f"{word} "
    return [*lines, line.rstrip()]


def _config_dir_in(given: Sequence[str]) -> str | None:
    """``--config-dir``, which help must know before arguments are read."""
    for number, one in enumerate(given):
        if one == "--config-dir" and number + 1 < len(given):
            return given[number + 1]
        if one.startswith("--config-dir="):
            return one.partition("=")[2]
    return None


_PRIMARY = (
    "test/si_sdr_improvement_db",
    "test/r2",
    "test/r2_free_running",
    "test/equal_error_rate",
    "test/min_dcf",
)


def _headline(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What a run is judged by: its primary test metrics and the best validation value."""
    metrics = record.get("metrics") or {}
    found = [(name, metrics[name]) for name in _PRIMARY if metrics.get(name) is not None]
    monitor = record.get("monitor") or {}
    if monitor.get("value") is not None:
        found.append((f"{monitor['name']} (best)", monitor["value"]))
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "none"
    names = list(rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _tell(written: object) -> None:
    for one in written if isinstance(written, list | tuple) else [written]:
        if one is not None:
            print(one)


def _progress(done: int, total: int, text: str) -> None:
    """One moving line on stderr, when somebody is there to watch; stdout carries results."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r\033[K{done}/{total} {text}", end=end, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a positive number of seconds is needed")
    return value
