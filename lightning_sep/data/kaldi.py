"""What lies in a Kaldi folder, through lhotse."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_sep.data.audio_files import header_rate
from lightning_sep.data.names import shown
from lightning_sep.errors import ConfigError, DataError


def of_kaldi(folder: Path, sample_rate: int | None) -> tuple[Any, Any]:
    """Recordings and supervisions, ``None`` without any, of a Kaldi folder.

    lhotse gives all files one rate and one channel and cuts them to whole milliseconds; here they
    have their own.

    Args:
        folder: with ``wav.scp``, and what else is known.
        sample_rate: in Hz, of what commands in ``wav.scp`` give; ``None`` where they are files.

    Raises:
        ConfigError: see :func:`_kaldi_rate`.
        DataError: files of the folder contradict each other.
    """
    from lhotse import Recording, RecordingSet, load_kaldi_data_dir

    rate = sample_rate or _kaldi_rate(folder)
    of_utterance = {
        name: speaker for speaker, *names in _lines(folder / "spk2utt") for name in names
    }
    for name, speaker, *_ in _lines(folder / "utt2spk"):
        other = of_utterance.get(name, "nobody") if of_utterance else speaker
        if other != speaker:
            raise DataError(
                f"{shown(folder)}: {shown(name)} is of {shown(speaker)} by utt2spk, of "
                f"{shown(other)} by spk2utt: mend one of them (Kaldi's fix_data_dir.sh does it)"
            )
    with _with_text(folder) as whole:
        loaded, supervisions, _ = load_kaldi_data_dir(whole, sampling_rate=rate)
    recordings = RecordingSet.from_recordings(
        Recording.from_file(one.sources[0].source, recording_id=one.id)
        if one.sources[0].type == "file"
        else one
        for one in loaded
    )
    for one in supervisions or ():
        if one.recording_id in recordings:
            recording = recordings[one.recording_id]
            channels = recording.channel_ids
            one.channel = channels if len(channels) > 1 else channels[0]
            if 0 < recording.duration - one.end < 1e-3:
                one.duration = recording.duration - one.start
    return recordings, supervisions


@contextmanager
def _with_text(folder: Path) -> Iterator[Path]:
    """The folder, or one like it that has the ``text`` that lhotse asks for beside ``segments``:
    for speaker verification nobody writes it."""
    utterances = _lines(folder / "segments")
    if not utterances or (folder / "text").exists():
        yield folder
        return
    with TemporaryDirectory() as place:
        for path in folder.iterdir():
            (Path(place) / path.name).symlink_to(path.resolve())
        (Path(place) / "text").write_text("".join(f"{name}\n" for name, *_ in utterances))
        yield Path(place)


def _kaldi_rate(folder: Path) -> int:
    """The rate of the first file that ``wav.scp`` names as a file.

    Raises:
        ConfigError: the first line is a command, or the file that it names cannot be read.
        DataError: there is no such list.
    """
    try:
        lines = (folder / "wav.scp").read_text().splitlines()
    except OSError as error:
        raise DataError(
            f"{shown(folder / 'wav.scp')} cannot be read ({error.strerror}): data.kaldi names a "
            "folder laid out by Kaldi"
        ) from error
    _, place = [*(lines[0] if lines else "").split(maxsplit=1), "", ""][:2]
    rate = None if place.rstrip().endswith("|") else header_rate(Path(place.strip()))
    if rate is None:
        raise ConfigError(
            f"{shown(folder / 'wav.scp')} does not tell the rate of its audio: set data.sample_rate"
        )
    return rate


def _lines(path: Path) -> list[list[str]]:
    """The words of each line of a file that are any; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [words for words in map(str.split, lines) if words]
