"""Which snippets validation and test are made of, and which of them are of one session."""

import numpy as np
import pytest
import soundfile

from lightning_sep.data.corpus import Prepared
from lightning_sep.data.folder import Folder
from lightning_sep.data.snippets import Snippets

SEGMENT = 80  # samples: 10 ms


@pytest.fixture
def recorded(tmp_path):
    """Writes a set from rows of (speaker, session, split, segments); samples tell their place."""

    def write(rows: list[tuple[str, str, str, int]]) -> Prepared:
        folder = tmp_path / f"set of {len(rows)}"
        folder.mkdir()
        lines = ["filename,speaker,session,split"]
        for number, (speaker, session, split, segments) in enumerate(rows):
            samples = np.arange(segments * SEGMENT) + 1000 + 29 * number
            soundfile.write(folder / f"{number:03d}.wav", samples.astype(np.int16), 8000)
            lines.append(f"{number:03d}.wav,{speaker},{session},{split}")
        (folder / "metadata.csv").write_text("\n".join(lines))
        return Folder(str(folder)).open(tmp_path / "home")

    return write


def plain(split: str, sizes: list[int], speakers: int = 2) -> list[tuple[str, str, str, int]]:
    """Files of ``sizes`` segments for each of some speakers."""
    return [(f"{split} {who}", "", split, size) for who in range(speakers) for size in sizes]


def chosen(draw) -> dict[int, list[int]]:
    """Numbers of the segments that are taken, by file."""
    found: dict[int, list[int]] = {}
    batch = draw.batch(seed=0, epoch=0, index=np.arange(draw.count))
    for waveform, file, offset in zip(batch.waveform[:, 0].numpy(), *draw.fixed, strict=True):
        first = round(float(waveform[0]) * 32768) - 1000 - 29 * int(draw.table.recording[file])
        assert first == offset
        assert np.array_equal(np.rint(np.diff(waveform) * 32768), np.ones(SEGMENT - 1))
        assert first % SEGMENT == 0
        found.setdefault(int(draw.table.recording[file]), []).append(first // SEGMENT)
    return found


def test_snippets_of_a_file_are_spread_over_all_of_it(recorded):
    rows = [*plain("train", [2, 2]), *plain("val", [9, 10]), *plain("test", [5, 2, 1])]
    prepared = recorded(rows)
    examples = Snippets(speakers=2, snippets=2, segment_s=0.01, val=6, test=4)
    assert list(chosen(examples.draw(prepared, "val")).values()) == [[0, 3, 6], [0, 3, 6]] * 2
    assert list(chosen(examples.draw(prepared, "test")).values()) == [[0, 2], [0], [0]] * 2


def sessions_of(draw) -> list[tuple[int, int]]:
    """File and session of every snippet."""
    batch = draw.batch(seed=0, epoch=0, index=np.arange(draw.count))
    return sorted(
        zip(draw.table.recording[draw.fixed[0]].tolist(), batch.sessions.tolist(), strict=True)
    )


def test_a_file_of_no_known_session_is_a_session_of_its_own(recorded):
    known = [(f"test {who}", f"day {day}", "test", 1) for who in range(2) for day in (0, 1, 1)]
    unknown = [(f"test {who}", "", "test", 1) for who in range(2) for _ in range(5)]
    # Files of unknown sessions come first: their numbers are also those of sessions.
    prepared = recorded([*unknown, *known, *plain("train", [2, 2]), *plain("val", [2, 2])])
    draw = Snippets(speakers=2, snippets=2, segment_s=0.01).draw(prepared, "test")
    found = dict(sessions_of(draw))
    assert len(found) == 16
    # Of the files with a session, the second and third of a speaker share one; all of a day do.
    assert found[11] == found[12] == found[14] == found[15]
    assert found[10] == found[13] != found[11]
    alone = [found[number] for number in range(10)]
    assert len({*alone, found[10], found[11]}) == 12


@pytest.mark.parametrize(("speakers", "told"), [(9, 1), (10, 0)])
def test_under_ten_test_speakers_the_set_says_what_it_cannot_say(recorded, speakers, told):
    prepared = recorded(
        [*plain("test", [1, 1], speakers), *plain("train", [2, 2]), *plain("val", [2, 2])]
    )
    remarks = Snippets(speakers=2, snippets=2, segment_s=0.01).remarks(prepared)
    assert len(remarks) == told
    assert all(f"has {speakers} speakers" in one for one in remarks)


def test_sessions_count_where_the_chosen_snippets_are_of_two(recorded):
    rows = [(f"test {who}", day, "test", 1) for who in range(2) for day in ("a", "a", "b")]
    prepared = recorded([*rows, *plain("train", [2, 2]), *plain("val", [2, 2])])
    for test, known in ((2, False), (3, True)):  # of two each, the first two files are taken
        examples = Snippets(speakers=2, snippets=2, segment_s=0.01, test=test)
        found = sessions_of(examples.draw(prepared, "test"))
        assert all(file == session for file, session in found) == (not known)
