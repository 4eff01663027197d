"""`lightning-sep completion`: what can stand next on a command line."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from lightning_sep.cli.command import PROGRAM, Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Print a script that lets a shell complete commands, options, settings, entries of conf/ (yours
included), sweeps and runs.

examples:
    lightning-sep completion bash >> ~/.bashrc
    lightning-sep completion zsh >> ~/.zshrc
    lightning-sep completion fish > ~/.config/fish/completions/lightning-sep.fish
"""
# bash breaks words at "=", so it wants what stands behind the last one; zsh and fish do not.
_SCRIPTS = {
    "bash": """\
_lightning_sep() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    COMPREPLY=($(lightning-sep completion words -- "$line" 2>/dev/null))
    [[ $line == *=* && ${line##* } == *=* ]] && COMPREPLY=("${COMPREPLY[@]##*=}")
    [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _lightning_sep lightning-sep
""",
    "zsh": """\
_lightning_sep() {
    local -a found
    found=(${(f)"$(lightning-sep completion words -- "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    compadd -Q -S '' -a found || _files
}
compdef _lightning_sep lightning-sep
""",
    "fish": """\
complete -c lightning-sep -a '(lightning-sep completion words -- (commandline -cp) 2>/dev/null)'
""",
}


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("shell", choices=[*_SCRIPTS, "words"], help="bash, zsh or fish")
    parser.add_argument("line", nargs="?", default="", help="a command line so far, for `words`")


def _run(arguments: argparse.Namespace) -> int | None:
    if arguments.shell != "words":
        print(_SCRIPTS[arguments.shell], end="")
        return None
    from lightning_sep.cli.entry import parsers

    *before, last = arguments.line.split(" ")
    for one in candidates(parsers(), [word for word in before[1:] if word], last):
        print(one)
    return None


def candidates(commands: Mapping[str, Parser], before: Sequence[str], last: str) -> list[str]:
    """What the last word of a line can become.

    Args:
        commands: the parser of each command.
        before: the words before, without the program.
        last: what is typed of the word.

    Example:
        >>> candidates({"train": Parser(), "status": Parser()}, [], "st")
        ['status']
    """
    named = next((word for word in before if word in commands), None)
    if named is None:
        found: Iterator[str] = iter(commands)
    elif last.startswith("-"):
        found = iter(commands[named].options())
    else:
        found = _words(commands[named], before, last)
    return [one for one in found if one.startswith(last)]


def _words(parser: Parser, before: Sequence[str], last: str) -> Iterator[str]:
    names = {action.dest for action in parser._actions if not action.option_strings}
    if names & {"run", "runs", "sweep", "sweeps"} and "=" not in last:
        yield from _runs_and_sweeps(only_sweeps=not names & {"run", "runs"})
    if "settings" in names:
        yield from _settings(before, last)


def _runs_and_sweeps(*, only_sweeps: bool) -> Iterator[str]:
    home = runs_home()
    yield from sorted(path.parent.name for path in home.glob("sweeps/*/sweep.json"))
    if not only_sweeps:
        yield from sorted(path.parent.name for path in home.glob("*/record.json"))


def _settings(before: Sequence[str], last: str) -> Iterator[str]:
    from lightning_sep.settings import ROOT, contents, entries, groups

    group, equals, values = last.partition("=")
    if equals:
        if group in groups():
            tried, comma, _ = values.rpartition(",")  # a grid lists several
            yield from (f"{group}={tried}{comma}{name}" for name in entries(group))
        return
    group, dot, _ = last.partition(".")
    if not dot:
        yield from (f"{one}=" for one in [*groups(), *ROOT])
        yield from (f"{one}." for one in groups())
        return
    chosen = [word.partition("=")[2] for word in before if word.startswith(f"{group}=")]
    keys: dict[str, None] = {}
    for name in chosen or entries(group):
        for node in contents([f"{group}/{name}"])[f"{group}/{name}"]:
            inner = node.get(group)
            keys |= dict.fromkeys(inner if isinstance(inner, dict) else node)
    yield from (f"{group}.{key}=" for key in keys if key not in ("_target_", "defaults"))


COMMAND = Command("completion", f"let your shell complete {PROGRAM}", _TEXT, _run, _add)
