"""The folders of entries: what there is to choose from."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError

ROOT = ("seed", "init_from")  # settings that belong to no group
_NO_GROUPS = ("board",)  # folders of conf/ that settings are not made of


def conf_folders(config_dir: Path | str | None = None) -> list[Path]:
    """Where entries lie: our own ``conf/``, that of the working folder, and ``config_dir``.

    Raises:
        ConfigError: ``config_dir`` is not a folder.
    """
    package = Path(__file__).parents[1]
    inside = package / "conf"  # in an installed wheel
    beside = package.parent / "conf"  # in a checkout
    found = [(inside if inside.is_dir() else beside).resolve()]
    more = [Path.cwd() / "conf"]
    if config_dir is not None:
        more.append(Path(config_dir).expanduser())
        if not os.path.isdir(more[-1]):  # unlike Path.is_dir it takes names of any length
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
    for folder in more:
        if folder.is_dir() and folder.resolve() not in found:
            found.append(folder.resolve())
    return found


def groups() -> list[str]:
    """The groups of settings: the folders of our own ``conf/``."""
    with os.scandir(conf_folders()[0]) as found:
        names = [one.name for one in found if one.is_dir() and one.name[0] not in "._"]
    return sorted(name for name in names if name not in _NO_GROUPS)


def entries(group: str, config_dir: Path | str | None = None) -> list[str]:
    """The names that ``group=`` takes, the user's own among them.

    Example:
        >>> "local" in entries("launcher")
        True
    """
    return entries_in(conf_folders(config_dir), group)


def entries_in(folders: Sequence[Path], group: str) -> list[str]:
    """The names of the entries of a group in these folders."""
    names = set()
    for folder in folders:
        if (folder / group).is_dir():
            with os.scandir(folder / group) as found:
                names |= {one.name.removesuffix(".yaml") for one in found if _is_entry(one)}
    return sorted(names)


def contents(
    names: Iterable[str], config_dir: Path | str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """What the files of some entries hold, nothing resolved: comments and layout do not count.

    Args:
        names: ``group/entry``.
        config_dir: as for :func:`conf_folders`.

    Returns:
        By name the mappings in the files of that name; none where no file can be read.
    """
    folders = tuple(conf_folders(config_dir))
    stamped = stamp(folders)
    return {name: _contents(name, folders, stamped) for name in names}


@lru_cache(maxsize=512)
def _contents(
    name: str, folders: tuple[Path, ...], stamped: tuple[tuple[str, int, int], ...]
) -> list[dict[str, Any]]:
    import yaml

    found = []
    for path in (folder / f"{name}.yaml" for folder in folders):
        try:
            node = yaml.safe_load(path.read_text())
        except (FileNotFoundError, ValueError, yaml.YAMLError):
            continue
        found.append(node if isinstance(node, dict) else {})
    return found


def stamp(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, time of change (ns) and size of every YAML file below: tells whether one has changed.

    All of them and not only those of the chosen entries, since entries include others.
    """
    return tuple(sorted(one for folder in folders for one in _stamps(str(folder))))


def _stamps(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as found:
        for one in found:
            if one.name.endswith(".yaml"):
                facts = one.stat()
                yield one.path, facts.st_mtime_ns, facts.st_size
            elif one.is_dir(follow_symlinks=False):
                yield from _stamps(one.path)


def _is_entry(one: "os.DirEntry[str]") -> bool:
    return one.name.endswith(".yaml") and one.name[0] not in "._"
