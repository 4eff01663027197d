"""Recordings of any rate and number of channels, and what embed and generate make of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from lightning_sep import use
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from tests.tasks import facts

FORMS = [(8000, 1), (8000, 2), (11025, 1), (16000, 3)]  # rate and channels


def written(path: Path, rate: int, channels: int) -> torch.Tensor:
    """A recording, and what a net at 8 kHz has to hear of it, ``[1, time]``."""
    samples = np.random.default_rng(channels).uniform(-0.4, 0.5, (rate // 2, channels))
    samples[:, 0] *= 0.3
    soundfile.write(path, samples, rate, subtype="FLOAT")
    mono = samples.astype(np.float32).mean(axis=1)
    if rate != 8000:
        mono = soxr.resample(mono, rate, 8000, quality="HQ")
    return torch.from_numpy(mono)[None]


@pytest.mark.parametrize(("rate", "channels"), FORMS)
def test_an_embedding_is_that_of_the_mean_of_the_channels_at_the_nets_rate(
    rate: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compose(["task=verification", "head=softmax"])
    task = build_task(settings.tree, facts.SNIPPETS, to_train=False).eval()
    monkeypatch.setattr(use, "load_run", lambda run: task)
    heard = written(tmp_path / "a.wav", rate, channels)
    use.embed("a run", [tmp_path / "a.wav"], tmp_path / "out.json")
    (found,) = json.loads((tmp_path / "out.json").read_text()).values()
    with torch.no_grad():
        expected = task.embed(heard)[0]
        assert not torch.allclose(expected, task.embed(0.5 * heard)[0], rtol=1e-4)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert sum(found) == pytest.approx(1, rel=1e-5)  # what the head makes of raw values


def generator_of(head: str, gain: float):
    settings = compose(["task=autoregression", "task.frame_samples=50", f"head={head}"])
    told = replace(facts.SEQUENCES, gain=gain, frame_samples=50)
    task = build_task(settings.tree, told, to_train=False).eval()
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(3)
    return task


@pytest.mark.parametrize("head", ["tanh", "logistic_mixture"])
@pytest.mark.parametrize(("rate", "channels"), FORMS)
def test_a_recording_goes_on_at_its_own_level_from_its_last_whole_frames(
    head: str, rate: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = generator_of(head, 2.5)
    monkeypatch.setattr(use, "load_run", lambda run: task)
    heard = written(tmp_path / "a.wav", rate, channels)
    out = use.generate(
        "a run", seconds=0.03, out=tmp_path / "b.wav", start=tmp_path / "a.wav", seed=3
    )
    found, its_rate = soundfile.read(out)
    assert (len(found), its_rate) == (240, 8000)
    whole = heard.shape[1] // 50
    frames = 2.5 * heard[:, heard.shape[1] - 50 * whole :].reshape(1, whole, 50)
    with torch.no_grad():
        made = task.continue_frames(frames, 5, torch.Generator().manual_seed(3)).flatten() / 2.5
    assert float(made.abs().max()) > 0.01
    np.testing.assert_allclose(found, made[:240].clamp(-1, 1).numpy(), atol=1.01 / 32768)


def test_without_a_recording_the_seed_decides_how_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = generator_of("logistic_mixture", 0.8)
    monkeypatch.setattr(use, "load_run", lambda run: task)
    seen = set()
    for seed in (0, 9):
        out = use.generate("a run", seconds=0.02, out=tmp_path / f"{seed}.wav", seed=seed)
        generator = torch.Generator().manual_seed(seed)
        start = 0.1 * torch.randn(1, 1, 50, generator=generator)
        with torch.no_grad():
            made = task.continue_frames(start, 4, generator).flatten()[:160] / 0.8
        found = soundfile.read(out)[0]
        np.testing.assert_allclose(found, made.clamp(-1, 1).numpy(), atol=1.01 / 32768)
        seen.add(tuple(found))
    assert len(seen) == 2
