"""A run's history as TensorBoard's event files."""

import importlib.util
import struct
from pathlib import Path

import pytest

from lightning_sep import experiment
from lightning_sep.errors import ConfigError
from lightning_sep.settings import build, compose

TRACKING = "tracking=tensorboard"


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Curves by name and step, read by the library that wrote them or its sister."""
    for module in ("tensorboardX.proto.event_pb2", "tensorboard.compat.proto.event_pb2"):
        try:
            kind = importlib.import_module(module).Event
            break
        except ModuleNotFoundError:
            continue
    [path] = folder.glob("events.out.tfevents.*")
    content, found = path.read_bytes(), {}
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = kind.FromString(content[12 : 12 + size])
        for value in event.summary.value:
            number = value.simple_value or sum(value.tensor.float_val)
            found.setdefault(value.tag, {})[event.step] = number
        content = content[16 + size :]
    return found


def test_without_a_writer_it_is_refused_and_leaves_nothing(
    tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_sep.tracking.tensorboard.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lightning_sep\[tensorboard\]'; "):
        experiment.run(compose([TRACKING]), home=tmp_path)
    assert not any(tmp_path.iterdir())


def test_curves_are_whole_after_a_resume(tmp_path: Path) -> None:
    tracking = build(compose([TRACKING]).tree["tracking"])
    if not any(map(importlib.util.find_spec, ("tensorboardX", "tensorboard"))):
        pytest.skip("neither tensorboardX nor tensorboard is installed")
    rows = [
        {"epoch": 0, "step": 8, "time_s": 1.5, "train/loss": 0.5},
        {"epoch": 1, "step": 16, "time_s": 2.0, "train/loss": 0.25, "val/r2": None},
    ]
    first = tracking.open(tmp_path, {})
    first.log(rows[0])
    first.left(None, None, None)
    again = tracking.open(tmp_path, {})
    for row in rows:
        again.log(row)
    again.finish({"metrics": {"test/r2": 0.75, "val/r2": 0.1}})
    assert events(tmp_path / "tensorboard") == {
        "epoch": {8: 0.0, 16: 1.0},
        "time_s": {8: 1.5, 16: 2.0},
        "train/loss": {8: 0.5, 16: 0.25},
        "test/r2": {16: 0.75},
    }
