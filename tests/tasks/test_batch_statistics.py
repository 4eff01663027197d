"""A net that norms over its batch: an entry of a user's own, trained, resumed and loaded."""

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor, nn

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.nets.abilities import BatchNet
from lightning_sep.parts import build_parts, build_task, loader_of
from lightning_sep.settings import compose
from lightning_sep.tasks import base
from lightning_sep.use import load_run
from tests.tasks import facts


class Normed(nn.Module):
    """Two convolutions and a norm over the batch between them."""

    material = "waveform"
    batch_statistics = True

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(inputs, 8, 15, padding=7), nn.BatchNorm1d(8), nn.Conv1d(8, outputs, 1)
        )

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        made: Tensor = self.layers(x)
        return made


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "tests")
    path = tmp_path / "conf" / "net" / "normed.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"_target_: {__name__}.Normed\n")
    return path.parents[1]


def test_it_is_trained_resumed_and_loaded_with_its_statistics(
    entry: Path, tmp_path: Path, data_home: Path
) -> None:
    overrides = [
        *("task=separation", "net=normed", "examples.train=24", "examples.batch_size=4"),
        *("examples.segment_s=0.25", "examples.val=4", "examples.test=4", "trainer.epochs=2"),
        *("tracking=none", "tracking.audio_examples=1", "trainer.progress=false"),
    ]
    settings = compose(overrides, entry)
    whole = experiment.run(settings, home=tmp_path / "whole")
    asked = iter([False] * 8 + [True] * 100)
    with pytest.raises(Interrupted):
        experiment.run(settings, home=tmp_path / "parts", should_stop=lambda: next(asked))
    parts = experiment.run(settings, home=tmp_path / "parts")
    assert whole.record["metrics"] == parts.record["metrics"]
    assert whole.record["hashes"]["weights"] == parts.record["hashes"]["weights"]
    task = load_run(parts.folder, tmp_path / "parts")
    norm = task.get_submodule("net.layers.1")
    assert int(norm.num_batches_tracked) in (6, 12)  # of the best epoch
    assert (norm.running_var != 1).all()
    built = build_parts(settings)
    batch = next(iter(loader_of(settings.tree, built)("test")))
    with torch.no_grad():
        heard = task.eval().audio_examples(batch, 1)
    for name, waveform in heard.items():
        kept, _ = soundfile.read(parts.folder / "audio" / f"{name}.flac", always_2d=True)
        torch.testing.assert_close(torch.tensor(kept.T).float(), waveform, rtol=0, atol=2**-15)
    waveform = torch.randn(3, 1, 400)
    alone = torch.cat([task.separate(one[None]) for one in waveform])
    torch.testing.assert_close(task.separate(waveform), alone)


def test_micro_batches_are_refused_before_a_run_has_a_folder(
    entry: Path, tmp_path: Path, data_home: Path
) -> None:
    settings = compose(["task=separation", "net=normed", "trainer.accumulate=2"], entry)
    with pytest.raises(ConfigError, match="net=Normed norms over the batch, of which each of 2"):
        experiment.run(settings, home=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_several_processes_are_refused(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = compose(["task=separation", "net=normed"], entry).tree
    task = build_task(tree, facts.MIXTURES)
    assert isinstance(task.net, BatchNet)
    task.on_train_start()
    monkeypatch.setattr(base, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="net=Normed norms over the batch, of which each of 2"):
        task.on_train_start()
    monkeypatch.setattr(Normed, "batch_statistics", False)
    task.on_train_start()
