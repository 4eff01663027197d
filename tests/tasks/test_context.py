"""Nets that need surroundings get them from the recording, and are scored on what they give."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures, mix
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.separation import Separation
from tests.tasks import facts, oracles

# net.levels=2 with kernels of 15 and 5, and outputs of 101 wished samples
SEGMENT, CONTEXT = 101, 55
LONG = SEGMENT + 2 * CONTEXT
FACTS = replace(facts.MIXTURES, normalise="none", class_names=tuple("ab"))


def task_of(*overrides: str, context: int = CONTEXT, segment: int = SEGMENT) -> Separation:
    settings = compose(["task=separation", "net.levels=2", "head=linear", *overrides])
    told = replace(FACTS, segment_samples=segment, context_samples=context)
    task = build_task(settings.tree, told)
    assert isinstance(task, Separation)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(2)
    return task.double().eval()


def recording(channels: int = 1, samples: int = 1200) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return 0.3 * torch.randn(2, channels, samples, generator=draw, dtype=torch.float64)


def batch_of(sources: torch.Tensor, *starts: int) -> Batch:
    """Segments that begin at ``starts`` of the sources, with their surroundings."""
    cut = torch.stack([sources[..., s - CONTEXT : s + SEGMENT + CONTEXT] for s in starts])
    labels = torch.tensor([[0, 1]]).repeat(len(starts), 1)
    active = torch.ones_like(labels, dtype=torch.bool)
    return Batch(cut.sum(1), labels, active, torch.arange(len(starts)), sources=cut)


def test_the_net_gives_what_one_pass_over_the_whole_recording_gives() -> None:
    task, sources = task_of("net.context=true"), recording()
    assert task.net.sizes(SEGMENT) == (LONG, SEGMENT)
    needed, given = task.net.sizes(1200)
    # pieces are decimated alike when their first samples lie whole steps apart
    first = -((needed - given) // 2) % 4
    starts = [start for start in range(60, 1000) if (start - CONTEXT - first) % 4 == 0][::40]
    assert len(starts) > 4
    with torch.no_grad():
        whole = task.separate_raw(sources.sum(0)[None])[0]
        raw = task.raw(batch_of(sources, *starts), None)
    for example, start in zip(raw, starts, strict=True):
        torch.testing.assert_close(example, whole[:, :, start : start + SEGMENT])


def test_zeros_stand_in_only_beyond_the_ends_of_a_file() -> None:
    task, sources = task_of("net.context=true"), recording()
    mixture = sources.sum(0)
    with torch.no_grad():
        whole = task.separate(mixture[None])[0]
        padded = torch.nn.functional.pad(mixture, (400, 400))
        wide = task.separate(padded[None])[0][..., 400:-400]
        blocks = torch.cat(list(task.separate_blocks(mixture.split(170, 1), piece=200)), -1)
    torch.testing.assert_close(whole, wide)
    torch.testing.assert_close(blocks, whole)


@pytest.mark.parametrize("difference", [False, True])
def test_targets_and_mixture_are_those_of_the_segment(difference: bool) -> None:
    task = task_of("net.context=true", "loss=mse", f"task.difference={difference}")
    sources = recording()
    batch = batch_of(sources, 100, 300, 701)
    raw = task.raw(batch, None)
    assert raw.shape == (3, 2 - difference, 1, SEGMENT, 1)
    made = task.net.forward_valid(batch.waveform).detach()
    costs, gains = [], []
    for example, start in enumerate((100, 300, 701)):
        true = sources[:, 0, start : start + SEGMENT].numpy()
        mixture = true.sum(0)
        estimates = made[example].numpy()
        if difference:
            estimates = np.stack([estimates[0], mixture - estimates[0]])
        pairwise = np.array([[oracles.mse(e, t) for t in true] for e in estimates])
        order = oracles.best_order(pairwise, np.array([True, True]))
        costs.append(sum(pairwise[order[s], s] for s in range(2)) / 2)
        pairwise = np.array([[-oracles.si_sdr(e, t) for t in true] for e in estimates])
        order = oracles.best_order(pairwise, np.array([True, True]))
        gains.append(
            np.mean([-pairwise[order[s], s] - oracles.si_sdr(mixture, true[s]) for s in range(2)])
        )
    np.testing.assert_allclose(task.scores(batch, raw).losses.detach().numpy(), costs, rtol=1e-9)
    with torch.no_grad():
        evaluation = task.evaluation("test")
        evaluation.add(batch, raw)
        values = evaluation.finish()[1]
        audio = task.audio_examples(batch, 2)
    np.testing.assert_allclose(values["si_sdr_improvement_db"], gains, rtol=1e-9)
    assert {tuple(one.shape) for one in audio.values()} == {(1, SEGMENT)}
    peak = (audio["1-target-1"] / sources[0, :, 300 : 300 + SEGMENT])[0, 0]
    torch.testing.assert_close(audio["1-mixture"], sources.sum(0)[:, 300 : 300 + SEGMENT] * peak)


@pytest.mark.parametrize("net", ["net.context=false", "net=sudo_rm_rf_small"])
def test_a_net_that_gives_as_much_as_it_gets_sees_the_surroundings_too(net: str) -> None:
    more = [net] if net.startswith("net.") else []
    settings = ["task=separation", net, "head=linear", *(["net.levels=2"] if more else [])]
    told = replace(FACTS, segment_samples=SEGMENT, context_samples=CONTEXT)
    task = build_task(compose(settings).tree, told).double().eval()
    assert isinstance(task, Separation)
    batch = batch_of(recording(), 100, 300)
    raw = task.raw(batch, None)
    whole = task.net(batch.waveform)[..., CONTEXT : CONTEXT + SEGMENT]
    assert torch.equal(raw[:, :, 0, :, 0], whole)


def test_other_surroundings_than_the_net_needs_are_refused_with_the_right_ones() -> None:
    match = r"examples\.segment_samples=101 examples\.context_samples=55"
    with pytest.raises(ConfigError, match=match):
        task_of("net.context=true", context=50)
    with pytest.raises(ConfigError, match=match):
        task_of("net.context=true", segment=100)
    published = [*("task=separation", "net=wave_unet", "net.filters=1")]
    told = replace(FACTS, segment_samples=16384, context_samples=1)
    with pytest.raises(ConfigError, match=r"segment_samples=16389 examples\.context_samples=65527"):
        build_task(compose(published).tree, told)
    right = replace(FACTS, segment_samples=16389, context_samples=65527)
    build_task(compose(published).tree, right)


def test_without_surroundings_a_net_pads_as_before() -> None:
    task = task_of("net.context=true", context=0)
    batch = batch_of(recording(), 100)
    raw = task.raw(batch, None)
    assert raw.shape[-2] == LONG
    assert torch.equal(raw[:, :, 0, :, 0], task.net(batch.waveform))


FILES, LENGTH = 9, 600


@pytest.fixture
def prepared(tmp_path):
    """Nine files whose samples tell their file and place."""
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(FILES):
        samples = (1000 * (number + 1) + np.arange(LENGTH)).astype(np.int16)
        soundfile.write(folder / f"{number}.wav", samples, 8000)
    return Folder(str(folder)).open(tmp_path / "home")


def test_surroundings_are_what_the_recording_holds_beside_the_same_segment(prepared) -> None:
    settings = {"segment_samples": SEGMENT, "normalise": "none", "train": 60, "batch_size": 60}
    plain = Mixtures(**settings).draw(prepared, "train")
    draw = Mixtures(**settings, context_samples=CONTEXT).draw(prepared, "train")
    index = np.arange(60)
    rows, offset = draw.places(seed=5, epoch=0, index=index)
    for one, other in zip(plain.places(seed=5, epoch=0, index=index), (rows, offset), strict=True):
        assert np.array_equal(one, other)
    batch = draw.batch(seed=5, epoch=0, index=index)
    assert batch.waveform.shape == (60, 1, LONG)
    assert torch.equal(batch.sources.sum(1), batch.waveform)
    place = offset[..., None] - CONTEXT + np.arange(LONG)
    within = (place >= 0) & (place < LENGTH)
    told = (1000 * (draw.table.recording[rows] + 1)[..., None] + place) * within
    assert 0.9 < within.mean() < 1  # some reach beyond an end
    level = np.sqrt(np.square(told / 32768).sum(-1, keepdims=True))
    quiet = batch.sources[:, :, 0].numpy() * level  # levels are those of all samples
    gain = (quiet / np.where(within, told / 32768, 1)).max(-1)
    np.testing.assert_allclose(gain[:, 1], 1, rtol=1e-5)
    expected = told / 32768 * gain[..., None]
    np.testing.assert_allclose(quiet, expected, rtol=1e-5, atol=1e-7)


def test_silence_is_judged_on_the_segment_alone() -> None:
    segments = np.full((1, 3, 1, LONG), 500, np.int16)
    segments[0, 1, 0, CONTEXT:-CONTEXT] = 3  # -81 dBFS, between loud surroundings
    segments[0, 2] = 0
    sources, active = mix(segments, level_db=np.zeros((1, 3)), normalise="none", context=CONTEXT)
    assert active.tolist() == [[True, False, False]]
    assert not sources[0, 1, 0, CONTEXT:-CONTEXT].any()
    assert (sources[0, 1, 0, :CONTEXT] > 0.01).all()
    assert (sources[0, 1, 0, -CONTEXT:] > 0.01).all()
    assert not sources[0, 2].any()
    _, without = mix(segments, level_db=np.zeros((1, 3)), normalise="none")
    assert without.tolist() == [[True, True, False]]


def test_facts_say_what_is_segment_and_what_surrounds_it(prepared) -> None:
    told = Mixtures(segment_samples=SEGMENT, context_samples=CONTEXT).facts(prepared)
    assert (told.segment_samples, told.context_samples) == (SEGMENT, CONTEXT)
    assert Mixtures(segment_s=0.02).facts(prepared).segment_samples == 160
    for name, value in {"segment_samples": 0, "context_samples": -1}.items():
        with pytest.raises(ConfigError, match=name):
            Mixtures(**{name: value})
