"""Whatever a task draws while it trains, a run that was interrupted ends like one that was not."""

from pathlib import Path

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.errors import Interrupted
from lightning_sep.fsio import read_lines
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import compose

SETTINGS = {
    "curriculum": [
        *("task=separation", "examples.train=24", "examples.batch_size=4"),
        *("examples.segment_s=0.25", "examples.val=4", "examples.test=4"),
        *("reweighting=curriculum", "reweighting.end=0.75"),
    ],
    "class bias by name": [
        *("task=separation", "examples.train=24", "examples.batch_size=4"),
        *("examples.segment_s=0.25", "examples.val=4", "examples.test=4"),
        *("reweighting=class_bias", "reweighting.gamma={speech: 3}"),
    ],
    "noise and scheduled sampling": [
        *("task=autoregression", "examples.train=24", "examples.batch_size=4"),
        *("examples.frames=12", "examples.val=4", "examples.test=4", "head=logistic_mixture"),
        *("task.input_noise=0.1", "task.teacher_forcing_k=3", "reweighting=loss_softmax"),
    ],
    "dropout": [
        *("task=verification", "examples.train=6", "examples.val=2", "examples.test=2"),
        *("net.dropout=0.5", "net.dense_dropout=0.25"),
    ],
    "a loss with parameters": [
        *("task=verification", "examples.train=6", "examples.val=2", "examples.test=2"),
        *("loss=am_softmax", "head=unit_sphere"),
    ],
}


def trained(overrides: list[str], home: Path, stops: tuple[int, ...]) -> experiment.Result:
    """A run that is interrupted after so many batches, again and again."""
    settings = compose([*overrides, "trainer.epochs=2", "tracking=none", "trainer.progress=false"])
    for stop in stops:
        asked = iter([False] * stop + [True] * 1000)
        with pytest.raises(Interrupted):
            experiment.run(settings, home=home, should_stop=lambda asked=asked: next(asked))
    return experiment.run(settings, home=home)


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_run_ends_bit_for_bit_like_another(
    name: str, tmp_path: Path, data_home: Path
) -> None:
    whole = trained(SETTINGS[name], tmp_path / "whole", stops=())
    parts = trained(SETTINGS[name], tmp_path / "parts", stops=(3, 5))
    assert whole.record["metrics"] == parts.record["metrics"]
    assert whole.record["hashes"]["weights"] == parts.record["hashes"]["weights"]
    assert parts.record["attempts"] == 3
    states = [
        torch.load(RunFolder(one.folder).bests()[0], weights_only=True)["state_dict"]
        for one in (whole, parts)
    ]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]) or (value != value).all(), key
    histories = [
        [
            {k: v for k, v in row.items() if k != "time_s"}
            for row in read_lines(one.folder / "metrics.jsonl")
        ]
        for one in (whole, parts)
    ]
    assert histories[0] == histories[1]
