"""Stereo from the folder to the separated file, through the real command."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

import lightning_sep
from lightning_sep import use
from lightning_sep.cli import main
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.evaluate import evaluate
from lightning_sep.nets.wave_unet import WaveUnet

RATE = 8000
SHORT = [
    *("examples.train=8", "examples.val=4", "examples.test=4", "examples.batch_size=4"),
    *("trainer.epochs=1", "trainer.progress=false", "tracking.audio_examples=1"),
]


def noises(number: int, seconds: float, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """``[time, channel]``: a sound that is louder in one channel, and a little of another."""
    draw = np.random.default_rng(number)
    samples = draw.normal(size=(round(seconds * rate), channels))
    samples[:, 0] += samples[:, -1]
    return 0.1 * samples * draw.uniform(0.2, 1.0, channels)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two classes of stereo sounds."""
    folder = tmp_path_factory.mktemp("stereo")
    for number in range(18):
        path = folder / f"{'ab'[number % 2]}/{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noises(number, 1.2), RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def home(sounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_SEP_HOME", str(folder))
        patch.setenv("LIGHTNING_SEP_DATA", str(tmp_path_factory.mktemp("data-home")))
        patch.chdir(folder)
        yield folder


def trained(home: Path, sounds: Path, *overrides: str) -> Path:
    before = set(home.glob("*/record.json"))
    code = main(["train", "data=folder", f"data.path={sounds}", *SHORT, *overrides])
    assert code == 0
    [record] = set(home.glob("*/record.json")) - before
    return record.parent


@pytest.fixture(scope="module")
def stereo(home, sounds):
    return trained(home, sounds, "data.channels=keep", "examples.segment_s=0.25", "head=linear")


@pytest.fixture(scope="module")
def mono(home, sounds):
    return trained(home, sounds, "examples.segment_s=0.25", "head=linear")


def test_a_run_on_stereo_is_told_and_keeps_both_channels(stereo, mono):
    record = json.loads((stereo / "record.json").read_text())
    assert record["facts"]["channels"] == 2
    assert np.isfinite(record["metrics"]["test/si_sdr_improvement_db"])
    task = lightning_sep.load_run(stereo)
    assert (task.net.inputs, task.net.outputs) == (2, 4)
    for folder, channels in ((stereo, 2), (mono, 1)):
        written = sorted((folder / "audio").glob("*.flac"))
        assert len(written) == 5
        for path in written:
            about = soundfile.info(path)
            assert (about.channels, about.frames, about.samplerate) == (channels, 2000, RATE)
    left, right = soundfile.read(stereo / "audio" / "0-mixture.flac")[0].T
    assert np.abs(left - right).max() > 0.1


def test_keeping_channels_is_another_run_by_its_data_alone(stereo, mono):
    one, other = (json.loads((folder / "record.json").read_text()) for folder in (stereo, mono))
    assert one["config_hash"] == other["config_hash"]
    assert one["data"] != other["data"]
    assert stereo.name != mono.name


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_a_stereo_file_is_separated_as_a_whole(stereo, tmp_path, monkeypatch, rate):
    file = tmp_path / "mix.wav"
    soundfile.write(file, noises(99, 3.217, rate=rate), rate)
    samples = soundfile.read(file, dtype="float32")[0]
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    level = np.abs(samples).max()
    task = lightning_sep.load_run(stereo)
    with torch.no_grad():
        mixture = torch.from_numpy(np.ascontiguousarray(samples.T / level))
        whole = task.separate(mixture[None])[0].numpy() * level
    lengths = []
    forward = WaveUnet.forward

    def counted(net, x, **more):
        lengths.append(x.shape)
        return forward(net, x, **more)

    monkeypatch.setattr(WaveUnet, "forward", counted)
    monkeypatch.setattr(use, "_PIECE_S", 0.25)
    written = use.separate(stereo, [file], tmp_path / "out")
    assert len(lengths) == 13
    assert {shape[:2] for shape in lengths} == {(1, 2)}
    for path, source in zip(written, whole, strict=True):
        expected = source.T
        if rate != RATE:
            expected = soxr.resample(expected, RATE, rate, quality="HQ")
        made, found_rate = soundfile.read(path)
        assert (made.shape, found_rate) == (soundfile.read(file)[0].shape, rate)
        count = min(len(made), len(expected))
        np.testing.assert_allclose(made[:count], expected[:count], atol=1.6 * 2**-15)


def test_a_mono_file_goes_into_both_channels_and_comes_back_as_one(stereo, tmp_path):
    one = noises(7, 0.5, channels=1)
    soundfile.write(tmp_path / "one.wav", one, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "two.wav", np.repeat(one, 2, axis=1), RATE, subtype="FLOAT")
    out = tmp_path / "out"
    made = [soundfile.read(path)[0] for path in use.separate(stereo, [tmp_path / "one.wav"], out)]
    both = [soundfile.read(path)[0] for path in use.separate(stereo, [tmp_path / "two.wav"], out)]
    for single, double in zip(made, both, strict=True):
        assert single.shape == (4000,)
        np.testing.assert_allclose(single, double.mean(axis=1), atol=2**-15)


def test_a_mono_net_takes_the_mean_of_a_stereo_file(mono, tmp_path):
    samples = noises(5, 0.5)
    soundfile.write(tmp_path / "two.wav", samples, RATE, subtype="FLOAT")
    mean = soundfile.read(tmp_path / "two.wav", dtype="float32")[0].mean(axis=1)
    soundfile.write(tmp_path / "one.wav", mean, RATE, subtype="FLOAT")
    made = use.separate(mono, [tmp_path / "two.wav", tmp_path / "one.wav"], tmp_path / "out")
    assert [soundfile.info(path).channels for path in made] == [1] * 4
    for first, second in zip(made[:2], made[2:], strict=True):
        assert np.array_equal(soundfile.read(first)[0], soundfile.read(second)[0])


@pytest.mark.parametrize("normalise", ["none", "peak", "sources", "std"])
def test_a_file_goes_in_at_the_level_of_training(normalise):
    blocks = [noises(n, 0.1).T + np.array([[0.3], [-0.1]]) for n in (1, 2)]
    whole = np.concatenate(blocks, axis=1)
    expected = {
        "none": 1.0,
        "peak": np.abs(whole).max(),
        "sources": np.abs(whole).max(),  # theirs is not known
        "std": np.sqrt(np.square(whole - whole.mean(axis=1, keepdims=True)).mean()),
    }[normalise]
    offset, level = use._level(iter(blocks), normalise)
    assert level == pytest.approx(expected, rel=1e-6)
    mean = whole.mean(axis=1, keepdims=True) if normalise == "std" else np.zeros((1, 1))
    np.testing.assert_allclose(offset, mean, atol=1e-6)
    assert use._level([np.zeros((2, 9), np.float32)], normalise)[1] == 1


def test_a_file_of_other_channels_is_refused(stereo, tmp_path):
    soundfile.write(tmp_path / "three.wav", noises(1, 0.2, channels=3), RATE)
    match = r"three\.wav has 3 channels, the run was trained on 2"
    with pytest.raises(DataError, match=match):
        use.separate(stereo, [tmp_path / "three.wav"], tmp_path / "out")


def test_a_run_is_evaluated_on_as_many_channels_as_it_was_trained_on(home, sounds, stereo, mono):
    told = ["data=folder", f"data.path={sounds}"]
    result, _ = evaluate(stereo, [*told, "data.channels=keep"], home=home)
    record = json.loads((stereo / "record.json").read_text())
    name = "test/si_sdr_improvement_db"
    assert result["metrics"][name] == pytest.approx(record["metrics"][name], rel=1e-9)
    with pytest.raises(ConfigError, match=r"has 1 channels, .* trained on 2.*channels=keep"):
        evaluate(stereo, told, home=home)
    with pytest.raises(ConfigError, match=r"has 2 channels, .* trained on 1.*channels=mean"):
        evaluate(mono, [*told, "data.channels=keep"], home=home)


@pytest.mark.parametrize("task", ["autoregression", "verification"])
def test_tasks_of_one_channel_refuse_two_in_one_line(home, sounds, task, capfd):
    kept = ["data=folder", f"data.path={sounds}", "data.channels=keep"]
    before = set(home.iterdir())
    assert main(["train", f"task={task}", *kept, "trainer.progress=false"]) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if "channel" in line]
    assert "take one channel, folder has 2: data.channels=mean takes their mean" in line
    assert not {one for one in set(home.iterdir()) - before if (one / "record.json").exists()}


def test_a_net_with_true_surroundings_is_trained_and_separates(home, sounds, tmp_path):
    run = trained(
        home,
        sounds,
        *("data.channels=keep", "net.levels=2", "net.context=true", "head=linear"),
        *("examples.segment_samples=501", "examples.context_samples=55", "task.order=fixed"),
    )
    record = json.loads((run / "record.json").read_text())
    assert record["facts"]["context_samples"] == 55
    assert soundfile.info(run / "audio" / "0-estimate-1.flac").frames == 501
    samples = noises(3, 0.5).astype(np.float32)
    soundfile.write(tmp_path / "mix.wav", samples, RATE, subtype="FLOAT")
    [first, _] = use.separate(run, [tmp_path / "mix.wav"], tmp_path / "out")
    task = lightning_sep.load_run(run)
    level = np.abs(samples).max()
    needed, given = task.net.sizes(len(samples))
    side = (needed - given) // 2
    padded = np.pad(samples.T / level, ((0, 0), (side, side + given - len(samples))))
    with torch.no_grad():
        valid = task.net.forward_valid(torch.from_numpy(padded)[None])[0, :2, : len(samples)]
    made = soundfile.read(first)[0].T
    np.testing.assert_allclose(made, valid.numpy().clip(-1 / level, 1 / level) * level, atol=1e-4)


def test_music_is_separated_in_stereo_with_its_surroundings_in_a_fixed_order(home, tmp_path):
    """As Wave-U-Net is published for vocals (M4), in miniature."""
    for song in range(6):
        folder = tmp_path / "songs" / f"song{song}"
        folder.mkdir(parents=True)
        stems = [noises(10 * song + number, 0.4) for number in range(2)]
        for name, samples in zip(("rest", "vocals"), stems, strict=True):
            soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
    before = set(home.glob("*/record.json"))
    few = [one for one in SHORT if not one.startswith(("examples.val", "examples.test"))]
    code = main(
        [
            *("train", "data=songs", f"data.path={tmp_path / 'songs'}", "data.channels=keep"),
            *("examples=stems", "examples.segment_samples=501", "examples.context_samples=55"),
            *("task.order=fixed", "task.difference=true", "loss=mse", "net.levels=2"),
            *("net.context=true", "net.upsampling=learned", *few),
        ]
    )
    assert code == 0
    [record] = set(home.glob("*/record.json")) - before
    run = record.parent
    task = lightning_sep.load_run(run)
    assert (task.net.inputs, task.net.outputs) == (2, 2)
    samples = noises(77, 0.6).astype(np.float32)
    soundfile.write(tmp_path / "mix.wav", samples, RATE, subtype="FLOAT")
    rest, vocals = (
        soundfile.read(path)[0] for path in use.separate(run, [tmp_path / "mix.wav"], tmp_path)
    )
    assert rest.shape == vocals.shape == samples.shape
    np.testing.assert_allclose(rest + vocals, samples, atol=3.2 * 2**-15)
    per_mixture = json.loads(next(run.glob("test_examples*.json")).read_text())
    songs = set(per_mixture["test/mixture"])
    assert len(per_mixture["test/index"]) == 7 * len(songs)  # segments of 3200 samples
