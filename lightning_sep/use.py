"""What a trained run is for: separate, continue and embed audio of one's own."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from torch import Tensor

from lightning_sep.checkpoint_files import best_weights
from lightning_sep.checks import finite_number
from lightning_sep.data.audio_files import (
    SILENCE_DBFS,
    SILENCE_RMS,
    UNKNOWN,
    BadAudio,
    doubts_of_the_end,
    promised_frames,
)
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.find import find_run
from lightning_sep.fingerprint import weights_hash
from lightning_sep.fsio import storage_errors, write_aside_with, write_json
from lightning_sep.homes import runs_home
from lightning_sep.parts import build_task, recorded_facts
from lightning_sep.record import misfits, read_record, read_records
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import from_tree
from lightning_sep.settings.file import entry_of
from lightning_sep.tasks.autoregression import Autoregression
from lightning_sep.tasks.base import Task
from lightning_sep.tasks.separation import Separation
from lightning_sep.tasks.verification import Verification
from lightning_sep.terminal import plain

if TYPE_CHECKING:
    import pandas

_PIECE_S = 10.0  # seconds of a file that are read, and go through a net, at once


def load_run(run: str | Path, home: Path | str | None = None) -> Task:
    """The trained task of a finished run, in evaluation mode, on the CPU.

    Args:
        run: its folder, its id or the beginning of its id.
        home: folder of all runs; ``None`` is ``LIGHTNING_SEP_HOME`` or ``runs/``.

    Raises:
        ConfigError: there is no such run, or it is not finished.
    """
    folder = find_run(run, Path(home or runs_home()))
    record = read_record(folder)
    if record is None or record["state"] != "finished":
        state = "unreadable" if record is None else record["state"]
        raise ConfigError(f"run {folder.name} is {state}: only a finished run can be used")
    tree = from_tree(record["settings"]).tree
    task = build_task(tree, recorded_facts(tree, record["facts"]), to_train=False)
    wrong = misfits(folder, record)
    if wrong:
        raise ConfigError(f"run {folder.name} cannot be used: {wrong[0]}")
    found = best_weights(RunFolder(folder), None)
    if found is None:
        raise ConfigError(
            f"run {folder.name} cannot be used: no whole checkpoint of its best epoch"
        )
    weights = found[1]["state_dict"]
    known = record.get("hashes", {}).get("weights")
    if known is not None and weights_hash(weights) != known:
        raise ConfigError(
            f"run {folder.name} cannot be used: {found[0]} holds other weights than its record says"
        )
    task.load_state_dict(weights)
    return task.eval()


def records(home: Path | str | None = None) -> "pandas.DataFrame":
    """All runs as a data frame: a row per record, a column per metric and per setting, and
    ``task``, ``net``, ``head``, ``loss`` and ``reweighting`` by the names of their entries.

    Raises:
        ConfigError: pandas is not installed.
    """
    frame: pandas.DataFrame = frame_library("records()").json_normalize(
        [
            {
                **{"task": record["task"]},
                **_parts(record),
                **record.pop("metrics", {}),
                **{k: v for k, v in record.items() if k != "facts"},
            }
            for record in read_records(Path(home or runs_home()))
        ]
    )
    return frame


def _parts(record: dict[str, Any]) -> dict[str, str | None]:
    """The entries that a run is made of, by name: as they were asked for, else as its record tells
    them, else those of its settings; ``None`` where there is no such entry any more."""
    said = record.pop("choices", {}) | dict(
        one.partition("=")[::2] for one in record.get("overrides", ())
    )
    settings = record.get("settings", {})
    named = ("net", "head", "loss", "reweighting")
    return {one: said.get(one) or entry_of(one, settings.get(one), None) for one in named}


def frame_library(who: str) -> Any:
    """Pandas.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{who} needs pandas: pip install 'lightning_sep[frame]', or read runs/*/record.json"
        ) from error
    return pandas


def _load(run: str | Path, wanted: type[Task], verb: str) -> Any:
    task = load_run(run)
    if not isinstance(task, wanted):
        raise ConfigError(
            f"{verb} needs a run of {wanted.__name__.lower()}; {run} is of "
            f"{type(task).__name__.lower()}"
        )
    return task


def _read(path: Path, sample_rate: int) -> tuple[Tensor, int]:
    """A file as one channel at ``sample_rate``: ``[1, time]``, and its own rate.

    Raises:
        DataError: it cannot be read, is empty, cut off or holds non-finite samples.
    """
    promised = _info(path).frames
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if len(samples) < promised:
        raise DataError(f"{path} ends {promised - len(samples)} samples before its header says")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} holds samples that are not finite numbers")
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32)).unsqueeze(0), rate


def _there(path: Path) -> None:
    """See that a file is one, which libsndfile's errors do not tell.

    Raises:
        DataError: nothing is there, or a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the audio files in it, such as {path}/*.wav")
    if not path.exists():
        raise DataError(f"{path}: no such file")


def _write(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    def write(file: IO[bytes]) -> None:
        quiet = _Quiet(file)
        with quiet.refusals():
            soundfile.write(
                quiet, np.clip(samples, -1, 1), sample_rate, format="WAV", subtype="PCM_16"
            )

    write_aside_with(path, write)


@torch.no_grad()
def separate(run: str | Path, files: list[Path], out: Path) -> list[Path]:
    """Split each file into its sources: ``<name>-source-1.wav`` and so on, at the file's rate.

    A net that was trained on one channel gets the mean of a file's channels, and its sources have
    one. A net of several channels gets all of them together, and its sources have as many; a file
    of one channel goes into all of them, and its sources are the means of theirs. Files of any
    length go through in pieces, in bounded memory; see :meth:`Separation.separate_blocks`. A
    terminal shows how far it is.

    Raises:
        ConfigError: the run is not one of separation, or ``out`` is a file.
        DataError: a file cannot be used, or two would write the same names.
    """
    stems = [file.stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError(
            f"several files are called {', '.join(twice)}: their sources would overwrite each "
            "other. Separate them into different folders"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: sources are written into a folder")
    task: Separation = _load(run, Separation, "separate")
    with storage_errors(out / "a source"):
        out.mkdir(parents=True, exist_ok=True)
    written, limited = [], False
    with _bar() as progress:
        for file in files:
            about = _info(file)
            rate = task.facts.sample_rate
            if about.samplerate > rate and not limited:
                limited = True  # once, however many files
                _remark(
                    f"{file} has {about.samplerate} Hz, the run was trained at {rate} Hz: sources "
                    f"hold nothing above {rate / 2:g} Hz"
                )
            row = progress.add_task(escape(plain(file.name)), total=1)

            def done(share: float, row: TaskID = row) -> None:
                progress.update(row, completed=share)

            written += _separate_file(task, file, about, out, done)
    return written


def _bar() -> Progress:
    """How far a command is, on a terminal."""
    console = Console(file=sys.stderr)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _separate_file(
    task: Separation, file: Path, about: Any, out: Path, done: Callable[[float], None]
) -> list[Path]:
    """Write the sources of one file; ``done`` is told the share of it that is through."""
    rate = task.facts.sample_rate
    if task.facts.channels > 1 and about.channels not in (1, task.facts.channels):
        raise DataError(
            f"{file} has {about.channels} channels, the run was trained on {task.facts.channels}: "
            f"separate a file of {task.facts.channels}, or of one"
        )
    lasts_s, trained_s = about.frames / about.samplerate, task.facts.segment_samples / rate
    if lasts_s < trained_s:
        _remark(
            f"{file} lasts {lasts_s:.2g} s, less than an example in training ({trained_s:.2g} s)"
        )
    read = partial(_blocks, file, about.frames, rate, task.facts.channels)
    offset, level = _level(read(), task.facts.normalise)
    paths = [out / f"{file.stem}-source-{number}.wav" for number in range(1, task.sources + 1)]
    with storage_errors(paths[0]), ExitStack() as opened:
        # Filled side by side, so without names: each is written aside and renamed when it is whole.
        # Without a buffer, which would be written, and refused, once more when it is closed.
        kept = [opened.enter_context(TemporaryFile(dir=out, buffering=0)) for _ in paths]
        channels = min(about.channels, task.facts.channels)
        sinks = [_Sink(one, about.samplerate, rate, about.frames, channels) for one in kept]
        for sink in sinks:
            opened.callback(sink.sound.close)
        blocks = (torch.from_numpy((block - offset) / level) for block in read())
        for sources in task.separate_blocks(blocks, piece=round(_PIECE_S * rate)):
            for sink, source in zip(sinks, sources, strict=True):
                sink.add((source * level).numpy())
            done(sinks[0].written / about.frames)
        for sink in sinks:
            sink.close()
        for path, one in zip(paths, kept, strict=True):
            one.seek(0)
            write_aside_with(path, partial(shutil.copyfileobj, one))
    return paths


@torch.no_grad()
def separate_samples(
    run: str | Path | Separation, samples: Any, sample_rate: int
) -> NDArray[np.float32]:
    """The sources of a recording in memory, as :func:`separate` makes those of a file.

    Args:
        run: a run's folder or id, or the task that :func:`load_run` gave.
        samples: ``[time]`` or ``[time, channel]``, as soundfile reads them.
        sample_rate: of them, in Hz; any.

    Returns:
        ``[source, time]``, or ``[source, time, channel]`` where channels were given: at their
        rate, length and level.

    Raises:
        ConfigError: the run is not one of separation.
        DataError: the samples are empty, not finite or of other channels than the run's.
    """
    task: Separation = run if isinstance(run, Separation) else _load(run, Separation, "separate")
    given = _samples(samples)
    rate, channels = task.facts.sample_rate, task.facts.channels
    if channels > 1 and given.shape[1] not in (1, channels):
        raise DataError(
            f"samples of {given.shape[1]} channels, the run was trained on {channels}: give as "
            "many, or one"
        )
    made = _resampler(sample_rate, rate, given.shape[1])(given, True).T
    wave = made.mean(axis=0, keepdims=True) if channels == 1 else made
    wave = np.broadcast_to(wave, (channels, wave.shape[1]))
    offset, level = _level([wave], task.facts.normalise)
    blocks = [torch.from_numpy((wave - offset) / level)]
    parts = list(task.separate_blocks(blocks, piece=round(_PIECE_S * rate)))
    found = np.zeros((task.sources, len(given), given.shape[1]), np.float32)
    for source, signal in zip(found, torch.cat(parts, dim=-1).numpy() * level, strict=True):
        mixed = signal if given.shape[1] == len(signal) else signal.mean(axis=0, keepdims=True)
        back = _resampler(rate, sample_rate, len(mixed))(np.ascontiguousarray(mixed.T), True)
        source[: len(back)] = back[: len(source)]
    return found[..., 0] if np.ndim(samples) == 1 else found


def _samples(samples: Any) -> NDArray[np.float32]:
    """``[time, channel]``.

    Raises:
        DataError: they are empty, of another shape or not finite.
    """
    found = np.asarray(samples, dtype=np.float32)
    if found.ndim not in (1, 2) or not found.size:
        raise DataError(
            f"samples of shape {list(found.shape)}: [time] or [time, channel] is needed"
        )
    if found.ndim == 2 and found.shape[1] > len(found):
        raise DataError(
            f"samples of shape {list(found.shape)} are {found.shape[1]} channels of {len(found)} "
            "samples: give samples.T"
        )
    if not np.isfinite(found).all():
        raise DataError("the samples hold values that are not finite numbers")
    return np.ascontiguousarray(found.reshape(len(found), -1))


@torch.no_grad()
def embed_samples(
    run: str | Path | Verification, samples: Any, sample_rate: int
) -> NDArray[np.float32]:
    """The embedding of a recording in memory, ``[number]``, as :func:`embed` makes that of a file.

    Args:
        run: a run's folder or id, or the task that :func:`load_run` gave.
        samples: ``[time]`` or ``[time, channel]``, whose mean counts.
        sample_rate: of them, in Hz; any.

    Raises:
        ConfigError: the run is not one of verification.
        DataError: the samples cannot be used.
    """
    task: Verification = run if isinstance(run, Verification) else _load(run, Verification, "embed")
    mono = _samples(samples).mean(axis=1)
    rate = task.facts.sample_rate
    if sample_rate != rate:
        mono = soxr.resample(mono, sample_rate, rate, quality="HQ")
    vector: NDArray[np.float32] = task.embed(torch.from_numpy(mono).unsqueeze(0))[0].numpy()
    return vector


def _info(path: Path) -> Any:
    """What a file's header says.

    Raises:
        DataError: it cannot be read, is empty, shorter than the header says or does not say how
            long it is.
    """
    _there(path)
    try:
        doubts = doubts_of_the_end(path)
        about = soundfile.info(path)
        with path.open("rb", buffering=0) as file:
            about.frames, unread = promised_frames(file, about.format, about.frames)
    except BadAudio as error:
        raise DataError(f"{path} {error}") from error
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if not about.frames:
        raise DataError(f"{path} is empty: it holds no samples")
    if about.frames >= UNKNOWN:
        raise DataError(f"{path} does not say how long it is: write it anew")
    for doubt in [*doubts, *unread]:
        _remark(f"{path}: {doubt}")
    return about


def _remark(line: str) -> None:
    """Say what somebody should know of a file that is used all the same."""
    print(plain(line), file=sys.stderr, flush=True)


def _blocks(
    path: Path, frames: int, sample_rate: int, channels: int
) -> Iterator[NDArray[np.float32]]:
    """A file at ``sample_rate``, in parts of a few seconds, ``[channel, time]`` each.

    Args:
        path: of the file.
        frames: samples of a channel that it holds.
        sample_rate: in Hz.
        channels: 1 takes the mean of the file's; of more, the file has as many, or one.

    Raises:
        DataError: it cannot be read to its end or holds non-finite samples.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate, left = file.samplerate, frames
            resample = _resampler(rate, sample_rate, 1 if channels == 1 else file.channels)
            while left:
                size = min(round(_PIECE_S * rate), left)
                samples = file.read(size, dtype="float32", always_2d=True)
                if not len(samples):
                    raise DataError(f"{path} ends {left} samples before its header says")
                left -= len(samples)
                if not np.isfinite(samples).all():
                    raise DataError(f"{path} holds samples that are not finite numbers")
                if channels == 1:
                    samples = samples.mean(axis=1, keepdims=True)
                made = resample(samples, not left).T
                yield np.broadcast_to(made, (channels, made.shape[1]))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error


def _resampler(
    rate: int, wanted: int, channels: int
) -> Callable[[NDArray[np.float32], bool], NDArray[np.float32]]:
    """Takes part after part of a signal, ``[time, channel]``, and whether it is the last; gives
    what is ready."""
    if rate == wanted:
        return lambda samples, last: samples
    stream = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")

    def resample(samples: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        made: NDArray[np.float32] = stream.resample_chunk(samples, last=last)
        return made

    return resample


class _Sink:
    """One source on its way to a WAV file, at the rate and of the length of the recording.

    Args:
        file: where to write.
        rate: of the file, in Hz.
        made_at: rate of what is added, in Hz.
        frames: samples of a channel that the file gets: twice rounded, resampling may be off by
            some.
        channels: of the file; 1 gets the mean of what is added.
    """

    def __init__(
        self, file: IO[bytes], rate: int, made_at: int, frames: int, channels: int
    ) -> None:
        self.file = _Quiet(file)
        self.sound = soundfile.SoundFile(
            self.file, "w", samplerate=rate, channels=channels, format="WAV", subtype="PCM_16"
        )
        self.resample = _resampler(made_at, rate, channels)
        self.written, self.frames, self.channels = 0, frames, channels

    def add(self, samples: NDArray[np.float32]) -> None:
        """Write the next part, ``[channel, time]``."""
        if self.channels == 1 and len(samples) > 1:
            samples = samples.mean(axis=0, keepdims=True)
        self._write(self.resample(np.ascontiguousarray(samples.T), False))

    def close(self) -> None:
        """Write what is still under way and fill up with silence."""
        self._write(self.resample(np.zeros((0, self.channels), np.float32), True))
        self._write(np.zeros((self.frames - self.written, self.channels), np.float32))
        with self.file.refusals():
            self.sound.close()

    def _write(self, samples: NDArray[np.float32]) -> None:
        samples = samples[: self.frames - self.written]
        with self.file.refusals():
            self.sound.write(np.clip(samples, -1, 1))
        self.written += len(samples)


class _Quiet:
    """A file whose errors are kept for whoever asks: libsndfile, which calls it from C, prints a
    traceback for each that reaches it.

    Args:
        file: what is written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.kept = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Write all of it, however little the disk takes at once; 0 when it refuses."""
        left = memoryview(content)
        try:
            while left:
                left = left[self.kept.write(left) :]
        except OSError as error:
            self.error = self.error or error
            return 0
        return len(content)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Let the disk's own error come out of what soundfile does meanwhile.

        Raises:
            OSError: the disk has refused.
        """
        try:
            yield
        except (soundfile.SoundFileError, AssertionError):  # as soundfile says "fewer than asked"
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kept, name)


def _level(
    blocks: Iterable[NDArray[np.float32]], normalise: str
) -> tuple[NDArray[np.float32], np.float32]:
    """What is taken off a mixture, ``[channel, 1]``, and what it is then divided by before it goes
    in, as in training: 0 but for ``std``, and 1 for silence.

    The peak of its sources, which ``sources`` divides by, is not known: that of the mixture stands
    in for it.
    """
    count, peak = 0, 0.0
    total, squares = np.zeros(1), np.zeros(1)  # of each channel
    for block in blocks if normalise != "none" else ():
        wide = block.astype(np.float64)
        count += wide.shape[1]
        total, squares = total + wide.sum(axis=1), squares + (wide**2).sum(axis=1)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
    mean = total / max(count, 1)
    variance = float((squares / max(count, 1) - mean**2).mean())
    levels = {"none": 1.0, "peak": peak, "sources": peak, "std": max(variance, 0.0) ** 0.5}
    level = levels[normalise]
    offset = mean[:, None] if normalise == "std" else np.zeros((1, 1))
    return offset.astype(np.float32), np.float32(level if level > 0 else 1.0)


@torch.no_grad()
def generate(
    run: str | Path,
    *,
    seconds: float,
    out: Path,
    start: Path | None = None,
    seed: int = 0,
) -> Path:
    """Let a net go on by itself, frame by frame, and write what it makes as WAV.

    Args:
        run: a run of autoregression.
        seconds: length of what is generated.
        out: the file to write.
        start: a recording to go on from; ``None`` starts from one frame of faint noise.
        seed: of the draws, for heads that are distributions, and of the noise.

    Raises:
        ConfigError: the run is not one of autoregression, ``seconds`` is not a positive number,
            or ``out`` has another ending.
        DataError: ``start`` cannot be used or is shorter than a frame.

    A terminal shows how far it is.
    """
    finite_number("seconds", seconds, above=0)
    if out.suffix.lower() != ".wav":
        raise ConfigError(f"{out}: generated audio is written as .wav")
    task: Autoregression = _load(run, Autoregression, "generate")
    rate, gain, size = task.facts.sample_rate, task.facts.gain, task.frame_samples
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        frames = 0.1 * torch.randn(1, 1, size, generator=generator)
    else:
        waveform, _ = _read(start, rate)
        count = waveform.shape[1] // size
        if not count:
            raise DataError(f"{start} is shorter than a frame of {size} samples at {rate} Hz")
        frames = gain * waveform[:, -count * size :].reshape(1, count, size)
    count = int(np.ceil(seconds * rate / size))
    with _bar() as progress:
        row = progress.add_task(escape(plain(out.name)), total=count)
        every = max(1, count // 100)

        def told(made: int) -> None:
            if made % every == 0:
                progress.update(row, completed=made)

        made = task.continue_frames(frames, count, generator, told)
    _write(out, (made.flatten() / gain).numpy()[: round(seconds * rate)], rate)
    return out


@torch.no_grad()
def embed(run: str | Path, files: list[Path], out: Path) -> Path:
    """One embedding per file, as JSON (``{file: [..]}``) or ``.npz`` (``files``, ``vectors``).

    Raises:
        ConfigError: the run is not one of verification, or ``out`` has another ending.
        DataError: a file cannot be used.
    """
    if out.suffix not in (".json", ".npz"):
        raise ConfigError(f"{out}: embeddings are written as .json or .npz")
    task: Verification = _load(run, Verification, "embed")
    rate = task.facts.sample_rate
    vectors = {}
    for file in files:
        waveform, _ = _read(file, rate)
        if waveform.shape[1] < task.n_fft:
            raise DataError(
                f"{file} has {waveform.shape[1]} samples at {rate} Hz: too short to be told from "
                f"others, one window of the analysis is {task.n_fft}"
            )
        if float(waveform.square().mean().sqrt()) < SILENCE_RMS:
            _remark(f"{file} is silent (below {SILENCE_DBFS:g} dBFS): its embedding is of nobody")
        vectors[str(file)] = task.embed(waveform)[0].numpy()
    if out.suffix == ".json":
        write_json(out, {name: vector.tolist() for name, vector in vectors.items()})
    else:
        names, rows = np.array(list(vectors)), np.stack(list(vectors.values()))
        write_aside_with(out, lambda file: np.savez(file, files=names, vectors=rows))
    return out
