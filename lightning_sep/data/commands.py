"""What ``lightning-sep data`` does: list, prepare and verify sets."""

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_sep.data.adapter import prepared_folders
from lightning_sep.data.corpus import Corpus, Prepared
from lightning_sep.data.manifests import Progress
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.settings import build, compose, conf_folders, entries
from lightning_sep.settings.about import opening


def corpus(name: str, settings: Sequence[str] = ()) -> Corpus:
    """The set ``data=<name>`` with the settings of its entry.

    Args:
        name: as in ``data=<name>``.
        settings: others than the entry's own, such as ``data.sample_rate=16000``.

    Raises:
        ConfigError: there is no such entry, it builds something else, or a setting cannot be used.
    """
    node = entry(name)
    if settings:
        others = [one for one in settings if not one.startswith("data.")]
        if others:
            raise ConfigError(
                f"{others[0]}: only settings of the data count here, such as data.sample_rate=16000"
            )
        node = compose([f"data={name}", *settings]).tree["data"]
        return _built(node, f"data={name}")
    return _built(node, f"data={name}")


def entry(name: str) -> dict[str, Any]:
    """The settings of ``data=<name>`` as its file says them.

    Raises:
        ConfigError: there is no such entry, or it cannot be read.
    """
    path = _file(name)
    try:
        node: dict[str, Any] = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return node


def _file(name: str) -> Path:
    known = entries("data")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"no data '{name}' in conf/data. {hint}Known: {', '.join(known)}")
    for folder in reversed(conf_folders()):  # an entry of the user's own goes before ours
        path = folder / "data" / f"{name}.yaml"
        if path.is_file():
            break
    return path


def _built(node: dict[str, Any], where: str) -> Corpus:
    made = build(node)
    if not isinstance(made, Corpus):
        raise ConfigError(f"{where}: {node['_target_']} is no Corpus")
    return made


def list_corpora(home: Path) -> list[dict[str, Any]]:
    """Every set that ``data=`` knows, as JSON types.

    Each has ``name``, ``description`` and ``prepared``; where it is prepared also ``hours``,
    ``sample_rate`` (Hz), ``splits``, ``licence`` and more, ``None`` where it is not.
    """
    listed = []
    for name in entries("data"):
        made = corpus(name)
        summary: dict[str, Any] = dict.fromkeys(("hours", "sample_rate", "splits", "licence"))
        folder = _prepared_folder(made, home)
        if folder is not None:
            summary = Prepared(folder).summary()
        said = opening(_file(name).read_text()).partition(";")[0]  # then follows how to use it
        description = said or (inspect.getdoc(type(made)) or "").partition("\n")[0]
        listed.append(
            {"name": name, "description": description, "prepared": folder is not None} | summary
        )
    return listed


def _prepared_folder(made: Corpus, home: Path) -> Path | None:
    """The prepared form with the entry's own settings, else the newest with any settings."""
    try:
        folder = made.prepared_folder(home)
    except (ConfigError, DataError):  # a folder that nobody has named yet
        folder = None
    others = prepared_folders(home, made.name)
    return folder or (others[0] if others else None)


def prepare(
    name: str,
    source: Path | None,
    home: Path,
    progress: Progress | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Prepare a set and return its summary.

    Args:
        name: as in ``data=<name>``.
        source: folder that the set lies in; ``None`` for sets that are made on the spot.
        home: the data home.
        progress: called for each file.
        settings: of the data, as for ``train``: ``data.sample_rate=16000``.

    Raises:
        ConfigError: there is no such set, a setting cannot be used, or ``source`` is missing or
            not wanted.
        DataError: files cannot be used.
    """
    prepared = corpus(name, settings).prepare_from(source, home, progress)
    return {"name": name} | prepared.summary()


def verify(
    name: str, home: Path, progress: Progress | None = None, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Compare every byte of all prepared forms of a set with their checksums.

    Args:
        name: as in ``data=<name>``.
        home: the data home.
        progress: called for each file.
        settings: of the data; the form that was prepared with them is compared alone.

    Raises:
        ConfigError: there is no such set.
        DataError: it is not prepared, or something differs.
    """
    made = corpus(name, settings)
    folders = prepared_folders(home, made.name)
    if settings:
        folders = [one for one in [made.prepared_folder(home)] if one is not None]
    if not folders:
        raise DataError(
            f"{name} is not prepared in {home}: lightning-sep data prepare {name} --source FOLDER"
        )
    for folder in folders:
        Prepared(folder).verify(progress)
    return {
        "name": name,
        "verified": [{"folder": str(folder), "hash": Prepared(folder).hash} for folder in folders],
    }
