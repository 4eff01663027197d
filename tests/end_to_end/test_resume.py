"""Whatever a task draws while it trains, a run that was interrupted ends like one that was not."""

import random
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.fsio import read_lines
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import compose, entries, locate
from lightning_sep.settings.fitting import fitting

SLOW = pytest.mark.slow

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


def assert_equal_runs(one: experiment.Result, other: experiment.Result) -> None:
    """To the bit, but for times."""
    assert one.run_id == other.run_id
    assert one.record["metrics"] == other.record["metrics"]
    for name in ("weights", "examples"):
        assert one.record["hashes"][name] == other.record["hashes"][name]
    assert one.record["coverage"] == other.record["coverage"]
    states = [
        torch.load(RunFolder(run.folder).bests()[0], weights_only=True)["state_dict"]
        for run in (one, other)
    ]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]) or (value != value).all(), key
    histories = [
        [
            {k: v for k, v in row.items() if k != "time_s"}
            for row in read_lines(run.folder / "metrics.jsonl")
        ]
        for run in (one, other)
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_run_ends_bit_for_bit_like_another(
    name: str, tmp_path: Path, data_home: Path
) -> None:
    whole = trained(SETTINGS[name], tmp_path / "whole", stops=())
    parts = trained(SETTINGS[name], tmp_path / "parts", stops=(3, 5))
    assert parts.record["attempts"] == 3
    assert_equal_runs(whole, parts)


SIZES = {
    "separation": [
        *("examples.train=14", "examples.batch_size=4", "examples.segment_s=0.15"),
        *("examples.val=6", "examples.test=6"),
    ],
    "autoregression": [
        *("examples.train=14", "examples.batch_size=4", "examples.frames=12"),
        *("examples.val=6", "examples.test=6"),
    ],
    "verification": [
        *("examples.train=5", "examples.speakers=3", "examples.snippets=2"),
        *("examples.segment_s=0.2", "examples.val=2", "examples.test=2"),
    ],
}
PLANS = {
    "on_plateau": ["plan.patience=1"],
    "second_stage": ["plan.patience=1", "trainer.patience=null"],
}
OPTIONS = [
    *("trainer.accumulate=2", "trainer.ema=0.9", "trainer.gradient_clip=null"),
    *("trainer.limit_batches=2", "trainer.precision=bf16-mixed", "examples.order=pass"),
]


def drawn(draw: random.Random) -> list[str]:
    """One entry of each kind that goes with a task, and some options."""
    task = draw.choice(sorted(SIZES))
    chosen = [f"task={task}", *SIZES[task], f"trainer.epochs={draw.choice([2, 3])}"]
    kind = locate(compose(chosen).tree["task"])
    for group in ("net", "head", "loss"):
        fit = [name for name in fitting(group, kind) if f"{name}_small" not in entries(group)]
        chosen.append(f"{group}={draw.choice(fit)}")
    for group in ("optimizer", "reweighting"):
        chosen.append(f"{group}={draw.choice(entries(group))}")
    plan = draw.choice(entries("plan"))
    chosen += [f"plan={plan}", *PLANS.get(plan, [])]
    return chosen + draw.sample(OPTIONS, draw.choice([0, 1, 2, 3]))


@pytest.mark.parametrize("case", [*range(6), *(pytest.param(n, marks=SLOW) for n in range(6, 120))])
def test_whatever_it_is_made_of(case: int, tmp_path: Path, data_home: Path) -> None:
    """Stopped, which saves, or gone without a word, which does not, at any of its batches."""
    draw, counted = random.Random(case), []
    quiet = ["tracking=none", "trainer.progress=false"]
    while True:
        chosen = drawn(draw)
        try:
            whole = experiment.run(
                compose([*chosen, *quiet]), home=tmp_path / "whole", alive=lambda: counted.append(1)
            )
            break
        except ConfigError:  # they do not go together
            counted.clear()
    often = f"trainer.checkpoint_every_steps={draw.choice(['null', 1, 2])}"
    settings = compose([*chosen, *quiet, often])
    for saves in draw.sample([True, True, False, False], 4):
        left = iter([False] * draw.randrange(len(counted)) + [True] * 1000)
        if saves:
            end = partial(experiment.run, should_stop=lambda left=left: next(left))
        else:
            end = partial(
                experiment.run, alive=lambda left=left: sys.exit() if next(left) else None
            )
        with suppress(Interrupted, SystemExit):
            end(settings, home=tmp_path / "parts")
    assert_equal_runs(whole, experiment.run(settings, home=tmp_path / "parts"))
