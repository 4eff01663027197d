"""What a run is called at W&B, and what the dashboard groups and compares it by."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightning_sep.fsio import write_json
from lightning_sep.run_id import EXCLUDED, config_hash, counted

FILE = "mirror.json"  # in a run's folder of W&B files
_JOB_TYPES = {"single": "train"}
_LONGEST = 128  # characters that W&B takes of a name or a group
# What tells single runs apart; the rest says how long and on how much they train.
_TELLING = ("net", "head", "loss", "reweighting", "optimizer", "plan", "data")
# Test metrics that are not named like what their task monitors.
_OTHER_DIRECTIONS = {"test/loss*": "min", "test/min_dcf": "min"}


@dataclass(frozen=True)
class Mirror:
    """A run as W&B shows it, the same while it trains, when it is uploaded and when it is made up.

    Args:
        run_id: W&B's id too, so that a run stays one however often it goes on.
        name: the setting and the seed.
        group: the sweep and the setting, so that seeds are averaged and settings are not.
        job_type: ``train``, ``search``, ``final`` or ``verify``.
        tags: words to filter by.
        config: flat: who asked for the run, what it is made of, and every setting that can change a
            number.
        monitor: the validation metric that chooses, and its direction.
        project: W&B project.
        entity: W&B user or team.
        checkpoint: whether the best epoch's weights are uploaded.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    monitor: tuple[str, str]
    project: str
    entity: str | None
    checkpoint: bool

    @classmethod
    def of(
        cls,
        about: Mapping[str, Any],
        *,
        home: Path,
        project: str,
        entity: str | None = None,
        checkpoint: bool = False,
    ) -> "Mirror":
        """A run's mirror.

        Args:
            about: what its record says; ``choices``, the chosen entry of each group, besides.
            home: folder of all runs.
            project: W&B project.
            entity: W&B user or team.
            checkpoint: whether the best epoch's weights are uploaded.
        """
        tree, sweep, purpose = about["settings"], about["sweep"], about["purpose"]
        choices = about.get("choices") or _choices(tree, about["overrides"])
        counting = {group: name for group, name in choices.items() if _counts(group)}
        setting = _setting(about, home, choices)
        environment = about.get("environment") or {}
        monitor = about["monitor"]
        return cls(
            run_id=about["run_id"],
            name=_short(f"{setting} s{about['seed']}"),
            group=os.environ.get("WANDB_RUN_GROUP")
            or _short(f"{sweep}/{setting}" if sweep else setting, about["config_hash"]),
            job_type=_JOB_TYPES.get(purpose, purpose),
            tags=[purpose, *sorted(f"{key}={value}" for key, value in counting.items())],
            config={
                "run_id": about["run_id"],
                "task": about["task"],
                "sweep": sweep,
                "trial": about["trial"],
                "purpose": purpose,
                "config_hash": config_hash(tree),
                "data_hash": next(iter((about.get("data") or {}).values()), None),
                "code_hash": environment.get("code_hash"),
                "code_revision": environment.get("code_revision"),
                **{
                    f"versions.{name}": value
                    for name, value in (environment.get("versions") or {}).items()
                },
                **counting,
                **dict(_flat(counted(tree))),
            },
            monitor=(monitor["name"], monitor["mode"]),
            project=project,
            entity=entity,
            checkpoint=checkpoint,
        )

    def directions(self) -> dict[str, str]:
        """``"min"`` or ``"max"`` of the metrics that have a better and a worse."""
        name, mode = self.monitor
        own = f"test/{name.partition('/')[2]}*"  # its percentiles too
        return {name: mode, own: mode, **_OTHER_DIRECTIONS}

    def write(self, folder: Path) -> None:
        """Keep it in a run's folder, for an upload.

        Raises:
            StorageError: it cannot be written.
        """
        write_json(folder / "wandb" / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Mirror | None":
        """The one that is kept in a run's folder; ``None`` where there is none."""
        try:
            kept = json.loads((folder / "wandb" / FILE).read_text())
            return cls(**{**kept, "monitor": tuple(kept["monitor"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _counts(path: str) -> bool:
    return path != "task" and not any(fnmatchcase(path, pattern) for pattern in EXCLUDED)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a tree by their dotted paths, without class paths."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield f"{prefix}{key}", value


def _choices(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """The entry of each group, as far as a record tells: what was asked for, else its class."""
    asked = dict(item.lstrip("+").split("=", 1) for item in overrides if "=" in item)
    return {
        group: asked.get(group) or node["_target_"].split(".")[-2]
        for group, node in tree.items()
        if isinstance(node, Mapping) and "." in node.get("_target_", "")
    }


def _setting(about: Mapping[str, Any], home: Path, choices: Mapping[str, str]) -> str:
    """What sets a run apart from others of its sweep, seeds aside; of a single run, its parts."""
    asked = [item.lstrip("+") for item in about["overrides"]]
    if about["sweep"]:
        shared = _shared(home / "sweeps" / about["sweep"] / "sweep.json")
        telling = [item for item in asked if item not in shared and not item.startswith("seed=")]
    else:
        telling = [item for item in asked if item.partition("=")[0].split(".")[0] in _TELLING]
    if not any(item.startswith("head=") for item in telling) and not (about["sweep"] and telling):
        telling.insert(0, f"head={choices.get('head', 'none')}")
    # The head first, which is what most is asked about; entries before their settings.
    telling.sort(key=lambda item: ("." in item.partition("=")[0], not item.startswith("head=")))
    return " ".join(map(_said, dict.fromkeys(telling)))


def _shared(path: Path) -> list[str]:
    """The overrides that all runs of a sweep have in common."""
    try:
        kept = json.loads(path.read_text())
        return [*kept["asks"]["settings"], *kept["extra"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _said(override: str) -> str:
    """``head=tanh`` is said as ``tanh``, ``loss.margin=2`` as ``margin=2``."""
    key, _, value = override.partition("=")
    return f"{key.split('.')[-1]}={value}" if "." in key else value


def _short(text: str, end: str = "") -> str:
    """A text that W&B takes; one that is cut ends with ``end``, so that no two become one."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - len(end) - 2]}… {end}".rstrip()
