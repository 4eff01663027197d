"""Runs by what people call them: an id, its beginning, a folder, the sweep whose best they are."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.record import RECORD, read_record, read_records
from lightning_sep.run_folder import ATTEMPTS

KEY = "init_from"  # the setting that names the run with whose weights another one begins
PINNED_DIGITS = 12  # of the hash of weights: 48 bits, as a run id has
_PINNED = re.compile(rf"(.+)@([0-9a-f]{{{PINNED_DIGITS}}})")


def find_run(run: str | Path, home: Path) -> Path:
    """The folder of a run, by its path, its id or the beginning of its id; a sweep's best by name.

    Raises:
        ConfigError: there is no such run, several begin like this, or the sweep has no best yet.
    """
    path = Path(run)
    if (path / RECORD).is_file():
        return path if path.name not in ("", "..") else path.resolve()  # a run is called like it
    sweep = home / "sweeps" / path.name
    if (
        path.name
        and path.name == str(run)
        and sweep.is_dir()
        and not (home / path.name / RECORD).is_file()
    ):
        return home / _best_run(sweep)
    known = sorted(found.parent.name for found in home.glob(f"*/{RECORD}"))
    matches = [name for name in known if name.startswith(str(run))]
    if len(matches) == 1:
        return home / matches[0]
    if matches:
        raise _not_unique(run, matches, home)
    near = get_close_matches(str(run), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(
        f"no run '{run}' in {home} ({len(known)} runs there).{hint} "
        "`lightning-sep leaderboard` lists them"
    )


def begun_run(beginning: str, home: Path) -> Path | None:
    """The folder of the run whose id begins like this, be it done or not; ``None`` without one.

    Raises:
        ConfigError: several begin like this.
    """
    begun = [found.parent for name in (ATTEMPTS, RECORD) for found in home.glob(f"*/{name}")]
    matches = sorted({one for one in begun if beginning and one.name.startswith(beginning)})
    if len(matches) > 1:
        raise _not_unique(beginning, [one.name for one in matches], home)
    return matches[0] if matches else None


def _not_unique(run: str | Path, matches: Sequence[str], home: Path) -> ConfigError:
    return ConfigError(f"run '{run}' is not unique in {home}: {', '.join(matches)}")


def is_pinned(parent: str) -> bool:
    """Whether the text of ``init_from`` says which weights it means: ``RUN@HASH``."""
    return _PINNED.fullmatch(parent) is not None


def find_parent(parent: str, *homes: Path) -> Path | None:
    """The folder of a finished run with the weights that ``RUN@HASH`` speaks of.

    The run of this name, or any other one; of several, the first that has kept its weights.

    Args:
        parent: ``RUN@HASH``.
        homes: where it is looked for, one after the other.
    """
    match = _PINNED.fullmatch(parent)
    if match is None:
        return None
    first = None
    for folder in (one for home in homes for one in _with_weights(match[1], match[2], home)):
        if any(folder.glob("checkpoints/best*")):
            return folder
        first = first or folder
    return first


def weights_of(record: Mapping[str, Any] | None) -> str:
    """Hash of the weights that a finished run's record speaks of; empty where it does not."""
    if record is None or record["state"] != "finished":
        return ""
    known = (record.get("hashes") or {}).get("weights")
    return known if isinstance(known, str) else ""


def _with_weights(name: str, digits: str, home: Path) -> Iterator[Path]:
    if weights_of(read_record(home / name)).startswith(digits):
        yield home / name
    for record in read_records(home):
        if weights_of(record).startswith(digits) and record["run_id"] != name:
            yield home / str(record["run_id"])


def _best_run(sweep: Path) -> str:
    """Of a sweep's best setting, the run that validated best on a fresh seed."""
    try:
        found = json.loads((sweep / "trials.json").read_text(encoding="utf-8"))
        best = found["best"]
        runs = [
            (final["value"], final["run_id"])
            for final in found["finals"]
            if best and final["trial"] == best.get("trial") and final["state"] == "finished"
        ]
        choose = max if found["direction"] == "maximize" else min
    except FileNotFoundError:
        runs, choose = [], max
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{sweep / 'trials.json'} cannot be read: {error}") from error
    if not runs:
        raise ConfigError(
            f"sweep {sweep.name} has no best run: it is not done, or no finalist has finished all "
            f"its fresh seeds. `lightning-sep status {sweep.name}` says how far it is"
        )
    return str(choose(runs, key=lambda one: one[0])[1])
