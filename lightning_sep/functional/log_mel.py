"""Log mel spectrogram: the features of the speaker networks."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lightning_sep.checks import refusal, whole_number
from lightning_sep.functional.precision import at_least_float32, without_autocast


def log_mel(
    waveform: Tensor, *, sample_rate: int, n_fft: int, hop_samples: int, bands: int
) -> Tensor:
    """``log10(1 + 10000 S)`` of the mel power spectrogram S.

    The front end of the speaker networks of Lukic et al. (MLSP 2016, 2017) and Stadelmann et al.
    (ANNPR 2018), who took S from librosa: Hann window of ``n_fft`` samples, centred frames with
    zeros at both ends, squared magnitudes, Slaney's mel scale with triangles of equal area from 0
    to half the sample rate. Computed in float32 at least: the powers leave the range of float16.

    Args:
        waveform: ``[batch, time]`` or ``[time]``, on any device.
        sample_rate: in Hz.
        n_fft: samples per frame.
        hop_samples: samples from one frame to the next.
        bands: number of mel bands.

    Returns:
        ``[batch, frame, band]`` (or ``[frame, band]``), ``1 + time // hop_samples`` frames, never
        negative; silence gives 0.

    Raises:
        ConfigError: a setting is not positive, or the bands are so narrow that one holds no
            frequency of the transform.

    Example:
        >>> silence = torch.zeros(2, 16000)
        >>> log_mel(silence, sample_rate=16000, n_fft=1024, hop_samples=160, bands=128).shape
        torch.Size([2, 101, 128])
    """
    for name, value in (
        ("sample_rate", sample_rate),
        ("n_fft", n_fft),
        ("hop_samples", hop_samples),
        ("bands", bands),
    ):
        whole_number(name, value, meaning="of log_mel")
    waveform = at_least_float32(waveform)
    filters, window = _constants(sample_rate, n_fft, bands, waveform.dtype, waveform.device)
    with without_autocast(waveform):
        spectrum = torch.stft(
            waveform,
            n_fft,
            hop_length=hop_samples,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # [..., frequency, frame]
        return torch.log10(1.0 + 10000.0 * (power.transpose(-1, -2) @ filters))


def mel_filters(*, sample_rate: int, n_fft: int, bands: int) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale, ``[frequency, band]``, float64.

    Linear below 1 kHz (200/3 Hz per mel), logarithmic above (27 mels for a factor of 6.4), as in
    Slaney's Auditory Toolbox (1998) and librosa's default.

    Raises:
        ConfigError: a band holds no frequency of the transform.
    """
    edges = _hertz(np.linspace(0.0, _mels(sample_rate / 2), bands + 2))
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low) / (centre - low)
    falling = (high - frequencies[:, None]) / (high - centre)
    filters: np.ndarray = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))
    empty = int((filters.max(axis=0) == 0).sum())
    if empty:
        raise refusal(
            "bands",
            bands,
            f"{empty} bands are without a frequency at n_fft = {n_fft} and {sample_rate} Hz; fewer "
            "bands or a larger n_fft would work",
        )
    return filters


_KNEE_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3.0
_LOG_STEP = np.log(6.4) / 27.0


def _mels(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return float(_KNEE_HZ / _HZ_PER_MEL + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mels: np.ndarray) -> np.ndarray:
    knee = _KNEE_HZ / _HZ_PER_MEL
    above = _KNEE_HZ * np.exp(_LOG_STEP * np.maximum(mels - knee, 0.0))
    return np.where(mels < knee, mels * _HZ_PER_MEL, above)


@lru_cache(maxsize=16)
def _constants(
    sample_rate: int, n_fft: int, bands: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    # kept for later calls, so they must not be inference tensors, which training cannot use
    with torch.inference_mode(False):
        filters = mel_filters(sample_rate=sample_rate, n_fft=n_fft, bands=bands)
        window = torch.hann_window(n_fft, periodic=True, dtype=torch.float64)
        return torch.as_tensor(filters).to(device, dtype), window.to(device, dtype)
