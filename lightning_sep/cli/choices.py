"""What settings there are to choose from: the end of a command's help, and help on entries."""

from collections.abc import Iterator, Sequence

from lightning_sep.errors import ConfigError


def entries_text(config_dir: str | None, chosen: Sequence[str]) -> str:
    """Each setting of the entries that were chosen, with its meaning and default, and what goes
    with a task; empty where none was.

    Args:
        config_dir: a folder with entries of the user's own.
        chosen: the words of the command line.
    """
    from lightning_sep.settings import groups

    pairs = [one.partition("=") for one in chosen]
    try:
        named = [(group, name) for group, _, name in pairs if group in groups()]
        lines = [line for group, name in named for line in _about(group, name, config_dir)]
    except ConfigError as error:
        return str(error)
    return "\n".join(lines)


def choices_text(config_dir: str | None) -> str:
    """What each group can be set to, read from the folders: a new entry shows up by itself.

    Args:
        config_dir: a folder with entries of the user's own.
    """
    from lightning_sep.settings import entries, groups

    try:
        listed = [(group, entries(group, config_dir)) for group in groups()]
    except ConfigError as error:
        return str(error)
    width = max(len(group) for group, _ in listed) + 1
    lines = [
        "settings to choose from (files of conf/, yours included); GROUP=ENTRY beside --help tells",
        "what can be set in an entry, task=ENTRY also what goes with it:",
    ]
    for group, names in sorted(listed, key=lambda pair: (pair[0] != "task", pair[0])):
        lines += _wrapped(f"    {group + '=':<{width}} ", names)
    return "\n".join(lines)


def _about(group: str, name: str, config_dir: str | None) -> Iterator[str]:
    from lightning_sep.settings.about import about

    yield from about(group, name, config_dir)
    if group == "task":
        from lightning_sep.settings import compose, locate
        from lightning_sep.settings.fitting import GROUPS, fitting

        task = locate(compose([f"task={name}"], config_dir).tree["task"])
        yield "    what goes with it:"
        for one in GROUPS:
            yield from _wrapped(
                f"        {one + '=':<9} ", fitting(one, task, config_dir, broken=True)
            )


def _wrapped(start: str, words: Sequence[str], width: int = 96) -> list[str]:
    lines, line = [], start
    for word in words:
        if len(line) + len(word) > width:
            lines.append(line.rstrip())
            line = " " * len(start)
        line += f"{word} "
    return [*lines, line.rstrip()]
