"""What a trained run does with audio of one's own."""

import contextlib
import gc
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

import lightning_sep
from lightning_sep import experiment, use
from lightning_sep.checkpoint_files import save
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.nets.wave_unet import WaveUnet
from lightning_sep.settings import compose

RATE = 8000


@pytest.fixture(scope="module")
def home(data_home: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_SEP_HOME", str(folder))
        yield folder


def trained(home: Path, *overrides: str) -> str:
    common = ["tracking=none", "trainer.epochs=1", "trainer.progress=false"]
    return experiment.run(compose([*overrides, *common]), home=home).run_id


@pytest.fixture(scope="module")
def separator(home):
    return trained(
        home,
        "task=separation",
        "examples.train=8",
        "examples.val=4",
        "examples.test=4",
        "examples.batch_size=4",
        "examples.segment_s=0.25",
    )


@pytest.fixture(scope="module")
def drawer(home):
    """A run whose head is a distribution."""
    return trained(
        home,
        "task=autoregression",
        "head=logistic_mixture",
        "examples.train=8",
        "examples.val=4",
        "examples.test=4",
        "examples.batch_size=4",
        "examples.frames=8",
    )


@pytest.fixture(scope="module")
def embedder(home):
    return trained(home, "task=verification", "examples.train=2")


def recording(path: Path, *, seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> Path:
    generator = np.random.default_rng(len(path.name))
    samples = 0.1 * generator.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


def test_using_a_run_does_not_wait_for_lightning(separator, home, tmp_path):
    file = recording(tmp_path / "mixture.wav")
    program = (
        "import sys; from lightning_sep.cli import main; "
        f"code = main(['separate', {str(home / separator)!r}, {str(file)!r}, '--out', 'out']); "
        "print(code, [name for name in ('pytorch_lightning', 'scipy.signal', 'lhotse', 'optuna', "
        "'wandb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 1), (16000, 2)])
def test_sources_have_the_rate_and_length_of_their_file(separator, tmp_path, rate, channels):
    file = recording(tmp_path / "mix.wav", seconds=0.4321, rate=rate, channels=channels)
    written = use.separate(separator, [file], tmp_path / "out")
    assert [path.name for path in written] == ["mix-source-1.wav", "mix-source-2.wav"]
    for path in written:
        about = soundfile.info(path)
        assert (about.samplerate, about.channels) == (rate, 1)
        assert about.frames == soundfile.info(file).frames


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (11025, 2)])
def test_a_long_file_in_pieces_equals_one_pass(separator, tmp_path, monkeypatch, rate, channels):
    file = recording(tmp_path / "mix.wav", seconds=3.217, rate=rate, channels=channels)
    samples = soundfile.read(file, dtype="float32", always_2d=True)[0].mean(axis=1)
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    level = np.abs(samples).max()
    task = lightning_sep.load_run(separator)
    with torch.no_grad():
        mixture = torch.from_numpy(samples / level)[None, None]
        whole = task.separate(mixture)[0, :, 0].numpy() * level
    lengths = []
    forward = WaveUnet.forward

    def counted(net, x, **more):
        lengths.append(x.shape[-1])
        return forward(net, x, **more)

    monkeypatch.setattr(WaveUnet, "forward", counted)
    monkeypatch.setattr(use, "_PIECE_S", 0.25)
    written = use.separate(separator, [file], tmp_path / "out")
    assert len(lengths) == 13
    assert max(lengths) <= 2008 + 2 * task.net.reach_samples
    for path, source in zip(written, whole, strict=True):
        if rate != RATE:
            source = soxr.resample(source, RATE, rate, quality="HQ")
        made = soundfile.read(path)[0]
        assert len(made) == soundfile.info(file).frames
        np.testing.assert_allclose(made[: len(source)], source[: len(made)], atol=1.6 * 2**-15)


def test_a_net_that_norms_over_time_gets_a_long_file_in_fading_pieces(home, tmp_path, monkeypatch):
    run = trained(
        home,
        *("task=separation", "net=sudo_rm_rf_small", "examples.train=8", "examples.val=4"),
        *("examples.test=4", "examples.batch_size=4", "examples.segment_s=0.25"),
    )
    file = recording(tmp_path / "mix.wav", seconds=2.0)
    [whole, _] = use.separate(run, [file], tmp_path / "whole")
    monkeypatch.setattr(use, "_PIECE_S", 0.5)
    [pieces, _] = use.separate(run, [file], tmp_path / "pieces")
    one, other = soundfile.read(whole)[0], soundfile.read(pieces)[0]
    assert len(one) == len(other) == 16000
    assert np.corrcoef(one, other)[0, 1] > 0.9
    assert not np.array_equal(one, other)


def test_sources_follow_the_level_of_their_mixture(separator, tmp_path):
    """Trained on mixtures of one peak, a quiet mixture gives the same sources, quietly."""
    samples = 0.05 * np.random.default_rng(0).standard_normal(4000)
    read = []
    for name, gain in [("loud", 4.0), ("quiet", 1.0)]:
        soundfile.write(tmp_path / f"{name}.wav", gain * samples, RATE, subtype="FLOAT")
        [first, _] = use.separate(separator, [tmp_path / f"{name}.wav"], tmp_path / "out")
        read.append(soundfile.read(first)[0])
    assert np.abs(read[1]).max() > 1e-3
    np.testing.assert_allclose(read[0], 4 * read[1], atol=5 * 2**-15)  # 16-bit files


def shortened(path: Path, left: float) -> Path:
    """A file whose header promises more than there is of it."""
    path.write_bytes(path.read_bytes()[: round(left * path.stat().st_size)])
    return path


@pytest.mark.parametrize("left", [0.5, 0.99])
@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_a_file_that_is_cut_off_is_refused_whatever_it_is_for(
    separator, drawer, embedder, tmp_path, ending, left
):
    file = shortened(recording(tmp_path / f"a.{ending}", seconds=2.0), left)
    told = r"a\.\w+ (is cut off, its end|ends \d+ samples before|cannot be read as audio)"
    with pytest.raises(DataError, match=told):
        use.separate(separator, [file], tmp_path / "out")
    with pytest.raises(DataError, match=told):
        use.embed(embedder, [file], tmp_path / "out.json")
    with pytest.raises(DataError, match=told):
        use.generate(drawer, seconds=0.1, out=tmp_path / "b.wav", start=file)
    assert not [one for one in tmp_path.glob("**/*") if one.is_file() and one != file]


def test_what_a_file_is_too_short_or_too_quiet_for_is_said(separator, embedder, tmp_path, capsys):
    recording(tmp_path / "mix.wav", seconds=0.25)
    soundfile.write(tmp_path / "three.wav", np.zeros(3), RATE)
    use.separate(separator, [tmp_path / "mix.wav", tmp_path / "three.wav"], tmp_path / "out")
    said = f"{tmp_path / 'three.wav'} lasts 0.00038 s, less than an example in training (0.25 s)\n"
    assert capsys.readouterr().err == said
    loud = np.random.default_rng(0).standard_normal(4000)
    for level in (1e-3, 1e-5):
        soundfile.write(tmp_path / f"{level}.wav", level * loud, RATE, subtype="FLOAT")
    use.embed(embedder, [tmp_path / "0.001.wav", tmp_path / "1e-05.wav"], tmp_path / "out.json")
    said = f"{tmp_path / '1e-05.wav'} is silent (below -80 dBFS): its embedding is of nobody\n"
    assert capsys.readouterr().err == said


def test_a_band_limit_is_said_once(separator, tmp_path, capsys):
    files = [recording(tmp_path / f"{rate}.wav", rate=rate) for rate in (8000, 4000, 16000, 44100)]
    use.separate(separator, files, tmp_path / "out")
    assert capsys.readouterr().err == (
        f"{files[2]} has 16000 Hz, the run was trained at 8000 Hz: sources hold nothing above "
        "4000 Hz\n"
    )
    made = [soundfile.read(tmp_path / "out" / f"44100-source-{one}.wav")[0] for one in (1, 2)]
    spectrum = np.abs(np.fft.rfft(made)).sum(axis=0)
    assert spectrum[np.fft.rfftfreq(len(made[0]), 1 / 44100) > 4400].max() < 0.01 * spectrum.max()


def peak_mib(work: Callable[[], object]) -> float:
    """How much more memory the process held at one time, while it worked, than before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    status = Path("/proc/self/status")

    def held(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+)", status.read_text())[1])

    before = held("VmRSS")
    work()
    return (held("VmHWM") - before) / 1024


def test_memory_does_not_grow_with_the_length_of_what_is_separated(separator, tmp_path):
    """Five minutes at 8 kHz are 9 MiB of float32, and many times that in a net, all at once."""
    files = [recording(tmp_path / f"{seconds}.wav", seconds=seconds) for seconds in (20, 40, 300)]
    use.separate(separator, files[:1], tmp_path / "out")  # what is loaded once
    short, long = (
        peak_mib(lambda one=one: use.separate(separator, [one], tmp_path / "out"))
        for one in files[1:]
    )
    assert long < short + 5, (short, long)


def test_memory_of_what_is_generated_is_little_more_than_the_samples(drawer, tmp_path):
    generated(drawer, tmp_path / "a.wav", seconds=1)
    assert peak_mib(lambda: generated(drawer, tmp_path / "a.wav", seconds=40)) < 4, "0.1 MB/s"


def test_silence_is_separated_without_nan(separator, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(2000), RATE)
    for path in use.separate(separator, [tmp_path / "silent.wav"], tmp_path / "out"):
        assert np.isfinite(soundfile.read(path)[0]).all()


def test_files_of_one_name_are_refused(separator, tmp_path):
    (tmp_path / "a").mkdir()
    files = [recording(tmp_path / "mix.wav"), recording(tmp_path / "a" / "mix.wav")]
    with pytest.raises(DataError, match="several files are called mix"):
        use.separate(separator, files, tmp_path / "out")


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "nan"])
def test_a_file_that_cannot_be_used_is_named(separator, tmp_path, kind):
    path = tmp_path / f"{kind}.wav"
    if kind == "empty":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "text":
        path.write_text("no audio")
    elif kind == "truncated":
        path = recording(tmp_path / "whole.flac").rename(tmp_path / "truncated.flac")
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "nan":
        soundfile.write(path, np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"{kind}\.(wav|flac)") as caught:
        use.separate(separator, [path], tmp_path / "out")
    assert "\n" not in str(caught.value)


def generated(run: str, out: Path, **changes: object) -> np.ndarray:
    use.generate(run, **{"seconds": 0.1, "out": out, **changes})
    samples: np.ndarray = soundfile.read(out)[0]
    return samples


def test_a_seed_decides_what_is_generated(drawer, tmp_path):
    first = generated(drawer, tmp_path / "a.wav", seed=1)
    assert np.array_equal(first, generated(drawer, tmp_path / "b.wav", seed=1))
    assert not np.array_equal(first, generated(drawer, tmp_path / "c.wav", seed=2))


def test_what_is_generated_has_the_length_asked_for(drawer, tmp_path):
    assert len(generated(drawer, tmp_path / "a.wav", seconds=0.1234)) == round(0.1234 * RATE)
    assert soundfile.info(tmp_path / "a.wav").samplerate == RATE


def test_a_distribution_goes_on_from_a_recording_as_the_seed_says(drawer, tmp_path):
    start = recording(tmp_path / "start.wav")
    first = generated(drawer, tmp_path / "a.wav", start=start, seed=1)
    assert not np.array_equal(first, generated(drawer, tmp_path / "b.wav", start=start, seed=2))
    other = recording(tmp_path / "another.wav")
    assert not np.array_equal(first, generated(drawer, tmp_path / "c.wav", start=other, seed=1))


def test_a_recording_of_less_than_a_frame_is_refused(drawer, tmp_path):
    start = recording(tmp_path / "short.wav", seconds=0.001)
    with pytest.raises(DataError, match="shorter than a frame of 64 samples"):
        use.generate(drawer, seconds=0.1, out=tmp_path / "a.wav", start=start)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused(drawer, tmp_path, seconds):
    with pytest.raises(ConfigError, match="a finite number above 0 is needed"):
        use.generate(drawer, seconds=seconds, out=tmp_path / "a.wav")


def test_generated_audio_is_not_called_what_it_is_not(drawer, tmp_path):
    with pytest.raises(ConfigError, match=r"\.wav"):
        use.generate(drawer, seconds=0.1, out=tmp_path / "a.flac")


def test_embeddings_in_both_formats_are_the_same_distributions(embedder, tmp_path):
    files = [recording(tmp_path / "a.wav"), recording(tmp_path / "bb.flac", rate=16000)]
    use.embed(embedder, files, tmp_path / "out.json")
    use.embed(embedder, files, tmp_path / "out.npz")
    read = json.loads((tmp_path / "out.json").read_text())
    stored = np.load(tmp_path / "out.npz")
    assert list(read) == stored["files"].tolist() == [str(file) for file in files]
    assert stored["vectors"].shape == (2, 32)
    np.testing.assert_allclose(stored["vectors"].sum(1), 1, rtol=1e-5)  # head=softmax
    np.testing.assert_allclose(list(read.values()), stored["vectors"], rtol=1e-6)


def test_embeddings_of_another_ending_are_refused(embedder, tmp_path):
    with pytest.raises(ConfigError, match=r"\.json or \.npz"):
        use.embed(embedder, [recording(tmp_path / "a.wav")], tmp_path / "out.csv")


def test_a_very_short_recording_gives_an_embedding(embedder, tmp_path):
    file = recording(tmp_path / "a.wav", seconds=256 / RATE)
    use.embed(embedder, [file], tmp_path / "out.json")
    [vector] = json.loads((tmp_path / "out.json").read_text()).values()
    assert sum(vector) == pytest.approx(1, rel=1e-5)


def test_a_run_of_another_task_is_refused(separator, embedder, drawer, tmp_path):
    file = recording(tmp_path / "a.wav")
    with pytest.raises(ConfigError, match=r"separate needs a run of separation.*verification"):
        use.separate(embedder, [file], tmp_path)
    with pytest.raises(ConfigError, match=r"generate needs a run of autoregression.*separation"):
        use.generate(separator, seconds=1, out=tmp_path / "a.wav")
    with pytest.raises(ConfigError, match=r"embed needs a run of verification.*autoregression"):
        use.embed(drawer, [file], tmp_path / "a.json")


def test_an_unknown_run_offers_the_nearest(separator, home):
    typo = separator[:-1] + ("0" if separator[-1] != "0" else "1")
    with pytest.raises(ConfigError, match=rf"no run '{typo}'.*Did you mean {separator}"):
        use.load_run(typo)


def test_the_beginning_of_an_id_is_enough_when_it_is_one_runs(separator, home, tmp_path):
    assert use.find_run(separator[:9], home) == home / separator
    assert use.find_run(home / separator, tmp_path) == home / separator
    with contextlib.chdir(home / separator):
        assert use.find_run(".", tmp_path).name == separator  # what its record is compared with
    with pytest.raises(ConfigError, match="is not unique"):
        use.find_run("", home)


def test_a_sweep_stands_for_the_best_run_of_its_best_setting(tmp_path: Path) -> None:
    def final(trial: int, run_id: str, value: float, state: str = "finished") -> dict[str, object]:
        return {"trial": trial, "run_id": run_id, "value": value, "state": state}

    folder = tmp_path / "sweeps" / "heads"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="sweep heads has no best run: it is not done"):
        use.find_run("heads", tmp_path)
    content = {
        "direction": "minimize",
        "best": {"trial": 3},
        "finals": [final(3, "a", 0.2), final(3, "b", 0.1), final(4, "c", 0.0)],
    }
    (folder / "trials.json").write_text(json.dumps(content))
    assert use.find_run("heads", tmp_path) == tmp_path / "b"
    content["direction"] = "maximize"
    (folder / "trials.json").write_text(json.dumps(content))
    assert use.find_run("heads", tmp_path) == tmp_path / "a"
    content["best"] = None
    (folder / "trials.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="no finalist has finished all its fresh seeds"):
        use.find_run("heads", tmp_path)
    (folder / "trials.json").write_text("{")
    with pytest.raises(ConfigError, match=r"trials\.json cannot be read"):
        use.find_run("heads", tmp_path)


def test_a_run_that_is_not_finished_is_refused(separator, tmp_path):
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "record.json").write_text('{"format": 1, "state": "failed"}')
    with pytest.raises(ConfigError, match="abc is failed"):
        use.load_run("abc", tmp_path)


def test_a_loaded_run_is_the_one_that_was_tested(separator, home):
    task = lightning_sep.load_run(separator)
    assert not task.training
    saved = torch.load(home / separator / "checkpoints" / "best.1.ckpt", weights_only=True)
    for name, value in task.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name]), name
    assert task.separate(torch.zeros(1, 1, 100)).shape == (1, 2, 1, 100)


def test_other_weights_than_the_record_tells_of_are_refused(separator, home, tmp_path):
    shutil.copytree(home / separator, tmp_path / separator)
    path = tmp_path / separator / "checkpoints" / "best.1.ckpt"
    saved = torch.load(path, weights_only=True)
    next(iter(saved["state_dict"].values())).view(-1)[0] += 1e-3
    save(saved, path)  # whole by its own checksum
    with pytest.raises(ConfigError, match="holds other weights than its record says"):
        use.load_run(tmp_path / separator)


def test_all_runs_are_a_data_frame(separator, drawer, embedder, home):
    frame = lightning_sep.records(home).set_index("run_id")
    assert {separator, drawer, embedder} <= set(frame.index)
    assert frame.loc[drawer, "settings.head._target_"].endswith("LogisticMixture")
    assert np.isfinite(frame.loc[drawer, "test/r2"])
    assert np.isnan(frame.loc[separator, "test/r2"])
    named = ["task", "net", "head", "loss", "reweighting"]
    assert list(frame.loc[drawer, named]) == [
        "autoregression", "lstm_small", "logistic_mixture", "mse", "uniform",
    ]  # fmt: skip
    assert list(frame.loc[embedder, named]) == [
        "verification", "blstm_small", "softmax", "kl_hinge", "uniform",
    ]  # fmt: skip


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (11025, 2)])
def test_samples_in_memory_are_separated_as_their_file_is(
    separator, home, tmp_path, rate, channels
):
    file = recording(tmp_path / "a.wav", seconds=1.1, rate=rate, channels=channels)
    written = use.separate(home / separator, [file], tmp_path / "out")
    samples, _ = soundfile.read(file, dtype="float32")
    made = lightning_sep.separate_samples(lightning_sep.load_run(home / separator), samples, rate)
    assert made.shape == (2, *samples.shape)
    for path, source in zip(written, made, strict=True):
        expected, _ = soundfile.read(path, dtype="float32")
        mono = source if source.ndim == 1 else source.mean(axis=1)
        np.testing.assert_allclose(mono, expected, atol=2**-14)


def test_samples_in_memory_are_embedded_as_their_file_is(embedder, home, tmp_path):
    file = recording(tmp_path / "a.wav", seconds=0.7, rate=11025, channels=2)
    use.embed(home / embedder, [file], tmp_path / "v.json")
    [expected] = json.loads((tmp_path / "v.json").read_text()).values()
    samples, rate = soundfile.read(file, dtype="float32")
    made = lightning_sep.embed_samples(home / embedder, samples, rate)
    np.testing.assert_allclose(made, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ([], r"shape \[0\]"),
        ([np.nan, 0.0], "not finite"),
        (np.zeros((1, 2, 3)), r"\[time, channel\] is needed"),
        (np.zeros((2, 800)), "800 channels of 2 samples: give samples.T"),
    ],
)
def test_samples_that_are_no_sound_are_refused(separator, home, samples, why):
    with pytest.raises(DataError, match=why):
        lightning_sep.separate_samples(home / separator, samples, RATE)


def test_no_runs_are_an_empty_data_frame(tmp_path):
    assert len(lightning_sep.records(tmp_path)) == 0
