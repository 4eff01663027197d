"""Whether bounds bind: on which material, how often, and that heads then differ."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.errors import ConfigError
from lightning_sep.experiment import run
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.base import Task
from tests.tasks import facts


def task_of(*overrides: str, normalise: str = "sources") -> Task:
    settings = compose(overrides)
    known = facts.of(settings.choices["task"])
    if isinstance(known, MixtureFacts):
        known = replace(known, normalise=normalise)
    return build_task(settings.tree, known)


def separation_batch() -> Batch:
    """Two mixtures of 10 samples; 3 of the 40 target samples leave full scale, 2 lie on it."""
    sources = torch.zeros(2, 2, 1, 10)
    sources[:, 0, :, ::2], sources[:, 1, :, 1::2] = 0.5, -0.5
    sources[0, 0, 0, :3] = torch.tensor([1.2, 1.0, -1.1])
    sources[1, 1, 0, :2] = torch.tensor([-1.0, 1.5])
    return Batch(
        waveform=sources.sum(1),
        labels=torch.tensor([[0, 1], [1, 2]]),
        active=torch.ones(2, 2, dtype=torch.bool),
        index=torch.arange(2),
        sources=sources,
    )


def evaluated(task: Task, batch: Batch, raw: torch.Tensor) -> dict[str, float]:
    task.eval()
    with torch.no_grad():
        evaluation = task.evaluation("val")
        evaluation.add(batch, raw)
        metrics, _ = evaluation.finish()
    return {
        f"val/{name}": value for name, value in {**metrics, **evaluation.means.values()}.items()
    }


@pytest.mark.parametrize("head", ["clip_at_eval", "hard_clip", "straight_through_clip", "tanh"])
def test_separation_tells_the_share_of_samples_beyond_the_bounds(head):
    task = task_of("task=separation", f"head={head}", "loss=mse")
    raw = torch.zeros(2, 2, 1, 10, 1)
    raw[0, 0, 0, :4, 0] = torch.tensor([1.5, -1.5, 1.0, -0.9])
    raw[1, 1, 0, 0, 0] = 3.0
    metrics = evaluated(task, separation_batch(), raw)
    assert metrics["val/targets_beyond_bounds"] == pytest.approx(3 / 40)
    clips = head != "tanh"  # which bends instead: nothing of it is ever beyond
    assert metrics["val/outputs_beyond_bounds"] == pytest.approx(3 / 40 if clips else 0)


def test_a_difference_beyond_the_bounds_is_counted_before_it_is_clipped():
    task = task_of("task=separation", "head=hard_clip", "loss=mse", "task.difference=true")
    batch = separation_batch()
    raw = torch.zeros(2, 1, 1, 10, 1)
    raw[0, 0, 0, 0, 0] = -2.0  # heard as -1, which leaves 1.2 + 1 for the last source
    raw[1, 0, 0, 2, 0] = -2.0  # heard as -1, which leaves 1 - 0.5 for it: within the bounds
    batch.waveform[1, 0, 2] = -0.5
    last = batch.waveform.clone()
    last[0, 0, 0] += 1
    last[1, 0, 2] += 1
    expected = (2 + int((last.abs() > 1).sum())) / 40
    metrics = evaluated(task, batch, raw)
    assert metrics["val/outputs_beyond_bounds"] == pytest.approx(expected)


def test_rounding_is_not_beyond_the_bounds():
    task = task_of("task=separation", "head=hard_clip", "loss=mse")
    batch = separation_batch()
    batch = replace(batch, sources=torch.full((2, 2, 1, 10), 1 + 2e-7))
    metrics = evaluated(task, batch, torch.full((2, 2, 1, 10, 1), -1 - 2e-7))
    assert metrics["val/targets_beyond_bounds"] == 0
    assert metrics["val/outputs_beyond_bounds"] == 0


def test_autoregression_tells_the_share_of_samples_beyond_the_bounds():
    task = task_of("task=autoregression", "task.frame_samples=4", "head=clip_at_eval")
    waveform = torch.full((2, 1, 12), 0.5)
    waveform[..., 4] = 1.3  # of 16 target samples: the first frame is none
    waveform[..., 0] = 1.3
    batch = Batch(waveform, torch.zeros(2).long(), torch.ones(2, dtype=torch.bool), torch.arange(2))
    raw = torch.zeros(2, 2, 4, 1)
    raw[0, 1, 2] = -1.2
    metrics = evaluated(task, batch, raw)
    assert metrics["val/targets_beyond_bounds"] == pytest.approx(2 / 16)
    assert metrics["val/outputs_beyond_bounds"] == pytest.approx(1 / 16)
    boundless = task_of("task=autoregression", "task.frame_samples=4", "head=linear")
    assert evaluated(boundless, batch, raw)["val/targets_beyond_bounds"] == 0


@pytest.mark.parametrize("head", ["tanh", "clip_at_eval", "mu_law_softmax"])
def test_a_normalisation_out_of_reach_of_the_head_is_refused(head):
    with pytest.raises(ConfigError, match="normalise=std puts sources beyond full scale, out of"):
        task_of("task=separation", f"head={head}", normalise="std")


def test_a_head_without_bounds_takes_any_normalisation():
    task = task_of("task=separation", "head=linear", "loss=mse", normalise="std")
    metrics = evaluated(task, separation_batch(), torch.full((2, 2, 1, 10, 1), 7.0))
    assert metrics["val/targets_beyond_bounds"] == 0
    assert float(task.head.decode(torch.tensor([[7.0]]))) == 7.0


def test_heads_that_clip_end_with_different_scores_on_full_scale_material(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The settings of sweeps/bounded_heads.py, smaller: one seed, three heads, three scores."""
    from lightning_sep.sweep.definition import load_sweep

    monkeypatch.setenv("LIGHTNING_SEP_DATA", str(tmp_path / "data"))
    sweep = load_sweep(Path(__file__).parents[2] / "sweeps" / "bounded_heads.py")
    smaller = [
        "data.speakers=12",
        "net.levels=2",
        "examples.train=32",
        "examples.val=16",
        "examples.test=16",
        "optimizer.learning_rate=0.02",
        "trainer.epochs=6",
        "tracking=none",
        "trainer.progress=false",
    ]
    scores, beyond = set(), []
    for head in ("hard_clip", "clip_at_eval", "straight_through_clip"):
        settings = compose([*sweep.settings([f"head={head}"], seed=0), *smaller])
        metrics = run(settings, home=tmp_path / "runs").record["metrics"]
        scores.add(metrics["val/si_sdr_improvement_db"])
        beyond.append(metrics["val/outputs_beyond_bounds"])
    assert len(scores) == 3
    assert min(beyond) > 0
