import librosa
import numpy as np
import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.functional.log_mel import log_mel, mel_filters

PUBLISHED = {"sample_rate": 16000, "n_fft": 1024, "hop_samples": 160, "bands": 128}
SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_samples": 80, "bands": 40}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("settings", [PUBLISHED, SMALL, SMALL | {"n_fft": 255}])
@pytest.mark.parametrize("time", [300, 6401])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large for input signal")
def test_agrees_with_librosa(settings: dict, time: int) -> None:
    waveform = 0.1 * noise(2, time)
    power = librosa.feature.melspectrogram(
        y=waveform.numpy(),
        sr=settings["sample_rate"],
        n_fft=settings["n_fft"],
        hop_length=settings["hop_samples"],
        n_mels=settings["bands"],
        power=2.0,
        dtype=np.float64,
    )
    expected = torch.from_numpy(np.log10(1.0 + 10000.0 * power)).transpose(1, 2)
    # librosa's window is float32 inside
    torch.testing.assert_close(log_mel(waveform, **settings), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [PUBLISHED, SMALL])
def test_filters_are_those_of_librosa(settings: dict) -> None:
    kept = {key: settings[key] for key in ("sample_rate", "n_fft", "bands")}
    expected = librosa.filters.mel(
        sr=kept["sample_rate"], n_fft=kept["n_fft"], n_mels=kept["bands"], dtype=np.float64
    )
    np.testing.assert_allclose(mel_filters(**kept), expected.T, rtol=1e-10, atol=1e-15)


def test_silence_is_zero() -> None:
    assert not log_mel(torch.zeros(1, 1000), **SMALL).any()


@pytest.mark.parametrize("time", [1, 79, 80, 8000])
def test_gives_a_frame_per_hop_and_one_more(time: int) -> None:
    assert log_mel(noise(2, time), **SMALL).shape == (2, 1 + time // 80, 40)


def test_one_waveform_is_a_batch_of_one() -> None:
    waveform = noise(900)
    torch.testing.assert_close(log_mel(waveform, **SMALL), log_mel(waveform[None], **SMALL)[0])


def test_a_tone_is_loudest_in_the_band_that_holds_it() -> None:
    time_s = torch.arange(8000, dtype=torch.float64) / 8000
    tone = torch.sin(2 * torch.pi * 1000 * time_s)[None]
    centres = librosa.mel_frequencies(n_mels=42, fmin=0, fmax=4000)[1:-1]
    loudest = int(log_mel(tone, **SMALL).mean(dim=(0, 1)).argmax())
    assert loudest == int(np.abs(centres - 1000).argmin())


def test_half_precision_is_computed_in_float32() -> None:
    waveform = 20 * noise(1, 4000).half()  # its powers leave the range of float16
    features = log_mel(waveform, **SMALL)
    torch.testing.assert_close(features, log_mel(waveform.float(), **SMALL), rtol=0, atol=0)
    assert features.dtype == torch.float32


def test_autocast_changes_nothing() -> None:
    waveform = noise(1, 4000).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = log_mel(waveform, **SMALL)
    assert torch.equal(features, log_mel(waveform, **SMALL))


def test_gradient_of_the_waveform_is_right() -> None:
    settings = {"sample_rate": 800, "n_fft": 32, "hop_samples": 16, "bands": 4}
    waveform = noise(1, 40).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: log_mel(x, **settings), waveform)


def test_a_first_call_in_inference_mode_does_not_spoil_training() -> None:
    settings = SMALL | {"bands": 39}  # nobody else's, so that its filters are made here
    with torch.inference_mode():
        log_mel(noise(1, 500), **settings)
    waveform = noise(1, 500).requires_grad_()
    log_mel(waveform, **settings).sum().backward()
    assert waveform.grad.abs().sum() > 0


@pytest.mark.parametrize("setting", ["sample_rate", "n_fft", "hop_samples", "bands"])
def test_a_setting_that_cannot_be_is_named(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} = 0: a whole number of at least 1"):
        log_mel(noise(1, 500), **(SMALL | {setting: 0}))


def test_bands_too_narrow_for_the_transform_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bands = 256: \d+ bands are without a frequency"):
        log_mel(noise(1, 500), **(SMALL | {"bands": 256}))
