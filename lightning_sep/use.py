"""What a trained run is for: separate, continue and embed audio of one's own."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from lightning_sep.callbacks.checkpoint import best_weights
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.experiment import build_task
from lightning_sep.fingerprint import weights_hash
from lightning_sep.fsio import storage_errors, write_aside_with, write_json
from lightning_sep.homes import runs_home
from lightning_sep.record import RECORD, misfits, read_record, read_records
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import from_tree
from lightning_sep.tasks.autoregression import Autoregression
from lightning_sep.tasks.base import Task
from lightning_sep.tasks.separation import Separation
from lightning_sep.tasks.verification import Verification

if TYPE_CHECKING:
    import pandas


def find_run(run: str | Path, home: Path) -> Path:
    """The folder of a run, by its path, its id or the beginning of its id.

    Raises:
        ConfigError: there is no such run, or several begin like this.
    """
    path = Path(run)
    if (path / RECORD).is_file():
        return path
    known = sorted(found.parent.name for found in home.glob(f"*/{RECORD}"))
    matches = [name for name in known if name.startswith(str(run))]
    if len(matches) == 1:
        return home / matches[0]
    if matches:
        raise ConfigError(f"run '{run}' is not unique in {home}: {', '.join(matches)}")
    near = get_close_matches(str(run), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(
        f"no run '{run}' in {home} ({len(known)} runs there).{hint} "
        "`lightning-sep leaderboard` lists them"
    )


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
    task = build_task(from_tree(record["settings"]).tree, record["facts"])
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
    """All runs as a data frame: a row per record, a column per metric and per setting.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ConfigError(
            "records() needs pandas: pip install 'lightning_sep[frame]', or read runs/*/record.json"
        ) from error
    return pandas.json_normalize(
        [
            {**record.pop("metrics", {}), **{k: v for k, v in record.items() if k != "facts"}}
            for record in read_records(Path(home or runs_home()))
        ]
    )


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
        DataError: it cannot be read, is empty or holds non-finite samples.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if not len(samples):
        raise DataError(f"{path} is empty: it holds no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} holds samples that are not finite numbers")
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32)).unsqueeze(0), rate


def _write(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    with storage_errors(path):
        write_aside_with(
            path,
            lambda file: soundfile.write(
                file, np.clip(samples, -1, 1), sample_rate, format="WAV", subtype="PCM_16"
            ),
        )


@torch.no_grad()
def separate(run: str | Path, files: list[Path], out: Path) -> list[Path]:
    """Split each file into its sources: ``<name>-source-1.wav`` and so on, at the file's rate.

    Raises:
        ConfigError: the run is not one of separation.
        DataError: a file cannot be used, or two would write the same names.
    """
    stems = [file.stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError(
            f"several files are called {', '.join(twice)}: their sources would overwrite each "
            "other. Separate them into different folders"
        )
    task: Separation = _load(run, Separation, "separate")
    rate = int(task.facts["sample_rate"])
    written = []
    for file in files:
        waveform, own_rate = _read(file, rate)
        frames = soundfile.info(file).frames
        level = _level(waveform, task.facts.get("normalise", "none"))
        sources = (task.separate(waveform / level) * level)[0].numpy()
        for number, source in enumerate(sources, start=1):
            if own_rate != rate:
                source = soxr.resample(source, rate, own_rate, quality="HQ")
                # Twice rounded, the length may be off by a sample or so.
                source = np.pad(source[:frames], (0, max(0, frames - len(source))))
            path = out / f"{file.stem}-source-{number}.wav"
            _write(path, source, own_rate)
            written.append(path)
    return written


def _level(waveform: Tensor, normalise: str) -> Tensor:
    """What a mixture is divided by before it goes in, as in training; 1 for silence."""
    if normalise == "peak":
        level = waveform.abs().max()
    elif normalise == "std":
        level = waveform.std(correction=0)
    else:
        level = waveform.new_tensor(1.0)
    return torch.where(level > 0, level, 1.0)


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
    """
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"seconds must be a positive number, got {seconds}")
    if out.suffix.lower() != ".wav":
        raise ConfigError(f"{out}: generated audio is written as .wav")
    task: Autoregression = _load(run, Autoregression, "generate")
    rate, gain, size = int(task.facts["sample_rate"]), task.facts["gain"], task.frame_samples
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        frames = 0.1 * torch.randn(1, 1, size, generator=generator)
    else:
        waveform, _ = _read(start, rate)
        count = waveform.shape[1] // size
        if not count:
            raise DataError(f"{start} is shorter than a frame of {size} samples at {rate} Hz")
        frames = gain * waveform[:, -count * size :].reshape(1, count, size)
    made = task.continue_frames(frames, int(np.ceil(seconds * rate / size)), generator)
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
    rate = int(task.facts["sample_rate"])
    vectors = {str(file): task.embed(_read(file, rate)[0])[0].numpy() for file in files}
    if out.suffix == ".json":
        write_json(out, {name: vector.tolist() for name, vector in vectors.items()})
    else:
        names, rows = np.array(list(vectors)), np.stack(list(vectors.values()))
        write_aside_with(out, lambda file: np.savez(file, files=names, vectors=rows))
    return out
