"""Separation: what can be listened to, at one gain for all that belongs to a mixture."""

import torch

from lightning_sep.data.batch import Batch
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from tests.tasks import facts


def si_sdr(estimate: torch.Tensor, target: torch.Tensor) -> float:
    """Le Roux et al., arXiv:1811.02508, eq. 3, in dB."""
    scaled = (estimate @ target) / (target @ target) * target
    return float(10 * torch.log10(scaled.square().sum() / (scaled - estimate).square().sum()))


def test_mixture_targets_and_estimates_share_a_gain_that_keeps_them_within_full_scale() -> None:
    settings = compose(["task=separation", "head=tanh", "net.levels=2"])
    task = build_task(settings.tree, facts.MIXTURES).eval()
    draw = torch.Generator().manual_seed(0)
    sources = 0.3 * torch.randn(3, 2, 1, 200, generator=draw).clamp(-1, 1)
    sources[0] *= 5  # beyond full scale, the others are not
    batch = Batch(
        waveform=sources.sum(1),
        labels=torch.tensor([[0, 1], [1, 2], [0, 2]]),
        active=torch.ones(3, 2, dtype=torch.bool),
        index=torch.arange(3),
        sources=sources,
    )
    with torch.no_grad():
        made = task.audio_examples(batch, 2)
        raw = task.net(batch.waveform[:2])
    assert len(made) == 2 * 5
    turned = []
    for number in range(2):
        estimates = raw[number].tanh().reshape(2, -1)
        fits = [
            sum(si_sdr(order[place], sources[number, place, 0]) for place in range(2))
            for order in (estimates, estimates.flip(0))
        ]
        turned.append(fits[1] > fits[0])
        if turned[-1]:  # each estimate stands beside the target that it fits
            estimates = estimates.flip(0)
        everything = [batch.waveform[number, 0], *sources[number, :, 0], *estimates]
        peak = max(1.0, max(float(one.abs().max()) for one in everything))
        assert (peak > 1) == (number == 0)
        torch.testing.assert_close(made[f"{number}-mixture"].flatten(), everything[0] / peak)
        for place in range(2):
            target, estimate = (
                made[f"{number}-{kind}-{place + 1}"].flatten() for kind in ("target", "estimate")
            )
            torch.testing.assert_close(target, sources[number, place, 0] / peak)
            torch.testing.assert_close(estimate, estimates[place] / peak)
    assert sorted(turned) == [False, True], "both ways are seen"
