"""What settings there are to choose from, as the end of a command's help."""

from collections.abc import Sequence

from lightning_sep.errors import ConfigError


def choices_text(config_dir: str | None) -> str:
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
