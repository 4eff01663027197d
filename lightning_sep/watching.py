"""What somebody at a terminal sees of a run."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_sep.devices import device_of
from lightning_sep.settings import build
from lightning_sep.terminal import duration


def is_watched(tree: Mapping[str, Any], purpose: str) -> bool:
    """Whether somebody looks at this run on a terminal."""
    return purpose == "single" and tree["trainer"]["progress"] and sys.stderr.isatty()


def announce(tree: Mapping[str, Any], prepared: Any, folder: Path) -> None:
    """What is about to be trained, where and on what."""
    device, threads = device_of(tree), tree["trainer"]["threads"]
    if device == "cuda":
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    ranks = build(tree["trainer"]).ranks
    if ranks > 1:
        device = f"{ranks} x {device}"
    print(
        f"run {folder.name} on {device}, data {prepared.name}: {folder}",
        file=sys.stderr,
        flush=True,
    )


def show_epoch(tree: Mapping[str, Any], name: str, purpose: str, row: dict[str, Any]) -> None:
    """One line per epoch on stderr: where it stands and how long it will take."""
    if purpose != "single" or not tree["trainer"]["progress"]:
        return
    done, epochs = row["epoch"] + 1, tree["trainer"]["epochs"]
    loss, value = (
        "not finite" if one is None else f"{one:.4g}"  # a history has null in place of it
        for one in (row["train/loss"], row[name])
    )
    time = f"{row['time_s']:.0f} s"
    left = f"{duration(row['time_s'] / done * (epochs - done))} left" if done < epochs else ""
    if sys.stderr.isatty():  # where 80 columns must do
        line = f"epoch {done}/{epochs} · loss {loss} · {name} {value} · {left or time}"
    else:
        line = f"epoch {done}/{epochs} · train/loss {loss} · {name} {value} · {time}"
        line += f", about {left}" if left else ""
    print(line, file=sys.stderr, flush=True)
