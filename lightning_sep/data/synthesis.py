"""Sounds made from a seed: voices, noises and melodies, at 8 kHz.

They are no music and no speech, but what tells them apart is what tells real ones apart: a voice is
a pitch range, a vocal tract and a timbre; a noise is a texture; a melody is a scale and decaying
overtones. So a model that learns something on real recordings learns it on these in seconds.
Every function is a pure function of its generator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 8000
_NYQUIST_HZ = SAMPLE_RATE / 2
_FRAME = 40  # samples: 5 ms, the step at which a voice changes
_PEAK = 0.7

Signal = NDArray[np.float64]

# First three formants in Hz of eight vowels, rounded from Peterson and Barney,
# "Control methods used in a study of the vowels", JASA 1952 (mean of the speakers).
_VOWELS_HZ = np.array(
    [
        [300, 2300, 3000],
        [420, 2050, 2600],
        [580, 1900, 2550],
        [750, 1750, 2450],
        [780, 1150, 2500],
        [600, 900, 2450],
        [460, 1080, 2300],
        [330, 900, 2280],
    ],
    dtype=np.float64,
)
_BANDWIDTHS_HZ = np.array([80.0, 110.0, 160.0])


@dataclass(frozen=True)
class Voice:
    """What makes a speaker: kept over all that they say.

    Args:
        pitch_hz: middle of the pitch range.
        tract: factor on all formants; a short vocal tract is above 1.
        tilt_db: fall of the glottal source per octave.
        breath: noise beside the tone, as a share.
        rate_hz: syllables per second.
        range_octaves: how far the pitch moves.
        ring_hz: frequency of one resonance of the speaker's own.
    """

    pitch_hz: float
    tract: float
    tilt_db: float
    breath: float
    rate_hz: float
    range_octaves: float
    ring_hz: float


def voice(number: int, of: int, generator: np.random.Generator) -> Voice:
    """Speaker ``number`` of ``of``: pitches spread over the human range, the rest drawn."""
    place = (number + generator.uniform(0.2, 0.8)) / of
    return Voice(
        pitch_hz=85.0 * 2.0 ** (1.6 * place),
        tract=0.85 + 0.35 * (0.6 * place + 0.4 * generator.random()),
        tilt_db=generator.uniform(-15.0, -6.0),
        breath=generator.uniform(0.01, 0.12),
        rate_hz=generator.uniform(3.0, 5.5),
        range_octaves=generator.uniform(0.1, 0.4),
        ring_hz=generator.uniform(700.0, 3500.0),
    )


def speech(voice: Voice, duration_s: float, generator: np.random.Generator) -> Signal:
    """Syllables of ``voice``: hiss or stop, then a vowel, with short rests. ``[time]``."""
    frames = int(duration_s * SAMPLE_RATE) // _FRAME
    formants = np.empty((frames, 3))
    voiced, hiss = np.zeros(frames), np.zeros(frames)
    at, last = 0, _VOWELS_HZ[generator.integers(len(_VOWELS_HZ))]
    while at < frames:
        length = max(8, int(generator.uniform(0.7, 1.3) / voice.rate_hz * SAMPLE_RATE / _FRAME))
        onset = int(length * generator.uniform(0.1, 0.3))
        rest = int(length * 1.5) if generator.random() < 0.12 else 0
        target = _VOWELS_HZ[generator.integers(len(_VOWELS_HZ))]
        level = generator.uniform(0.6, 1.0)
        syllable = slice(at, min(at + length, frames))
        steps = np.arange(syllable.stop - syllable.start)
        glide = np.clip(steps / (0.4 * length), 0.0, 1.0)[:, None]
        formants[syllable] = last + (target - last) * glide
        voiced[syllable] = np.where(steps < onset, 0.05, level)
        if generator.random() < 0.6:
            hiss[syllable] = np.where(steps < onset, generator.uniform(0.1, 0.4), 0.0)
        formants[syllable.stop : syllable.stop + rest] = target
        at, last = at + length + rest, target
    formants *= voice.tract
    window = np.hanning(7) / np.hanning(7).sum()
    voiced, hiss = np.convolve(voiced, window, "same"), np.convolve(hiss, window, "same")
    drift = np.cumsum(generator.normal(0.0, 0.03, frames))
    drift -= np.linspace(drift[0], drift[-1], frames)
    melody = np.sin(
        2 * np.pi * np.cumsum(generator.uniform(0.5, 1.5, frames)) * _FRAME / SAMPLE_RATE
    )
    pitch_hz = voice.pitch_hz * 2.0 ** (voice.range_octaves * (0.6 * melody + 0.4 * drift))

    time = np.arange(frames * _FRAME) / _FRAME
    grid = np.arange(frames)
    phase = 2 * np.pi * np.cumsum(np.interp(time, grid, pitch_hz)) / SAMPLE_RATE
    out = np.zeros(frames * _FRAME)
    rotation = np.exp(1j * phase)  # harmonic h is its h-th power: one complex product each
    turned = np.ones_like(rotation)
    for harmonic in range(1, int(_NYQUIST_HZ / pitch_hz.min()) + 1):
        turned = turned * rotation
        frequency_hz = harmonic * pitch_hz
        level_db = voice.tilt_db * np.log2(harmonic)
        gain = 10.0 ** (level_db / 20.0) * _tract_gain(frequency_hz, formants, voice.ring_hz)
        gain = gain * voiced * (frequency_hz < 0.95 * _NYQUIST_HZ)
        out += np.interp(time, grid, gain) * turned.imag
    noise = generator.normal(size=len(out))
    bright = _filtered([1.0, -0.9], [1.0], noise)
    out = out / max(float(np.abs(out).max()), 1e-9)
    out += 0.3 * np.interp(time, grid, hiss) * bright
    out += voice.breath * np.interp(time, grid, voiced) * noise * 0.3
    return _levelled(out)


def _tract_gain(frequency_hz: Signal, formants: Signal, ring_hz: float) -> Signal:
    gain = np.full(frequency_hz.shape, 0.02)
    for number, bandwidth_hz in enumerate(_BANDWIDTHS_HZ):
        away = (frequency_hz - formants[:, number]) / bandwidth_hz
        gain = gain + (1.0 - 0.25 * number) / (1.0 + away * away)
    return gain + 0.25 / (1.0 + ((frequency_hz - ring_hz) / 150.0) ** 2)


def rain(duration_s: float, generator: np.random.Generator) -> Signal:
    """Steady bright hiss with drops. ``[time]``."""
    count = int(duration_s * SAMPLE_RATE)
    steady = _filtered([1.0, -generator.uniform(0.6, 0.95)], [1.0], generator.normal(size=count))
    drops = np.zeros(count)
    places = generator.integers(0, count, int(duration_s * generator.uniform(30, 80)))
    drops[places] = generator.exponential(4.0, len(places))
    return _levelled(steady + _filtered([1.0], [1.0, -1.2, 0.6], drops))


def clicks(duration_s: float, generator: np.random.Generator) -> Signal:
    """A ticking: sharp, regular, short ringing. ``[time]``."""
    count = int(duration_s * SAMPLE_RATE)
    period = int(SAMPLE_RATE / generator.uniform(3.0, 9.0))
    impulses = np.zeros(count)
    places = np.arange(int(generator.integers(period)), count, period)
    places = np.clip(places + generator.integers(-20, 21, len(places)), 0, count - 1)
    impulses[places] = generator.uniform(0.6, 1.0, len(places))
    radius = generator.uniform(0.9, 0.97)
    angle = 2 * np.pi * generator.uniform(1200, 3200) / SAMPLE_RATE
    ringing = _filtered([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], impulses)
    return _levelled(ringing + 0.002 * generator.normal(size=count))


def hum(duration_s: float, generator: np.random.Generator) -> Signal:
    """Mains hum: steady low overtones, slowly swelling. ``[time]``."""
    time = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    base_hz = generator.uniform(48.0, 62.0)
    out = np.zeros_like(time)
    for harmonic in range(1, 13):
        phase = generator.uniform(0, 2 * np.pi)
        out += (
            generator.uniform(0.2, 1.0)
            / harmonic
            * np.sin(2 * np.pi * base_hz * harmonic * time + phase)
        )
    swell = 1.0 + 0.3 * np.sin(2 * np.pi * generator.uniform(0.2, 0.8) * time)
    return _levelled(out * swell + 0.01 * generator.normal(size=len(time)))


def chirps(duration_s: float, generator: np.random.Generator) -> Signal:
    """Birds: short upward and downward sweeps, high, with rests. ``[time]``."""
    count = int(duration_s * SAMPLE_RATE)
    out = 0.002 * generator.normal(size=count)
    at = int(generator.integers(SAMPLE_RATE // 5))
    middle_hz = generator.uniform(2000.0, 3000.0)
    while at < count:
        length = min(int(generator.uniform(0.05, 0.18) * SAMPLE_RATE), count - at)
        time = np.arange(length) / SAMPLE_RATE
        span_hz = generator.uniform(-900.0, 900.0)
        start_hz = middle_hz + generator.uniform(-200.0, 200.0)
        phase = 2 * np.pi * (start_hz * time + span_hz * time**2 * SAMPLE_RATE / (2 * length))
        out[at : at + length] += np.sin(phase) * np.hanning(length)
        at += length + int(generator.uniform(0.02, 0.2) * SAMPLE_RATE)
    return _levelled(out)


def engine(duration_s: float, generator: np.random.Generator) -> Signal:
    """A motor: low noise in pulses, with overtones of the pulse rate. ``[time]``."""
    time = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    rate_hz = generator.uniform(18.0, 40.0)
    wander = np.cumsum(generator.normal(0.0, 0.02, len(time))) / np.sqrt(SAMPLE_RATE)
    phase = 2 * np.pi * rate_hz * time + wander
    pulse = np.exp(3.0 * (np.cos(phase) - 1.0))
    rumble = _filtered(
        [1.0], [1.0, -generator.uniform(0.9, 0.97)], generator.normal(size=len(time))
    )
    tone = np.sin(phase * 4) + 0.5 * np.sin(phase * 6)
    return _levelled(rumble / rumble.std() * pulse + 0.5 * tone * pulse)


def melody(duration_s: float, generator: np.random.Generator) -> Signal:
    """Plucked tones on a random walk over a pentatonic scale. ``[time]``."""
    count = int(duration_s * SAMPLE_RATE)
    out = np.zeros(count)
    scale = np.array([0, 2, 4, 7, 9, 12, 14, 16, 19, 21])
    base_hz = 196.0 * 2.0 ** (generator.integers(0, 7) / 12.0)
    beat = int(SAMPLE_RATE * generator.uniform(0.2, 0.3))
    step, at = int(generator.integers(2, 8)), 0
    while at < count:
        step = int(np.clip(step + generator.integers(-2, 3), 0, len(scale) - 1))
        length = min(4 * beat, count - at)
        time = np.arange(length) / SAMPLE_RATE
        tone_hz = base_hz * 2.0 ** (scale[step] / 12.0)
        tone = np.zeros(length)
        for harmonic in range(1, 7):
            if harmonic * tone_hz < 0.9 * _NYQUIST_HZ:
                decay = np.exp(-time * (2.0 + 1.2 * harmonic))
                tone += decay / harmonic**1.5 * np.sin(2 * np.pi * harmonic * tone_hz * time)
        attack = np.minimum(time * 200.0, 1.0)  # 5 ms: no click
        out[at : at + length] += generator.uniform(0.5, 1.0) * attack * tone
        at += beat * int(generator.choice([1, 1, 2]))
    return _levelled(out)


def _filtered(zeros: list[float], poles: list[float], signal: Signal) -> Signal:
    """``signal`` through the filter of these coefficients, as SciPy orders them."""
    from scipy.signal import lfilter  # takes longer to load than a list of all sets to show

    made: Signal = lfilter(zeros, poles, signal)
    return made


def _levelled(signal: Signal) -> Signal:
    return np.asarray(signal * (_PEAK / np.abs(signal).max()))


NOISES: dict[str, Callable[[float, np.random.Generator], Signal]] = {
    "rain": rain,
    "clicks": clicks,
    "hum": hum,
    "chirps": chirps,
    "engine": engine,
}
