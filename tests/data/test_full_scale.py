"""Material that reaches full scale."""

import numpy as np
import pytest

from lightning_sep.data.full_scale import FullScale
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.ones import Ones
from lightning_sep.errors import ConfigError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("full_scale")


@pytest.fixture(scope="module")
def prepared(home):
    return FullScale(speakers=12).open(home)


def recordings(prepared):
    for split in ("train", "val", "test"):
        table = prepared.table(split)
        for item in range(len(table)):
            count = int(table.samples[item])
            yield prepared.reader.read(
                table.recording[[item]],
                table.start[[item]],
                table.samples[[item]],
                np.zeros(1, dtype=np.int64),
                count,
            )[0, 0]


def test_every_recording_reaches_full_scale_and_about_half_are_clipped(prepared):
    at_top = [int((np.abs(one.astype(int)) >= 32767).sum()) for one in recordings(prepared)]
    assert min(at_top) >= 1
    clipped = sum(count > 4 for count in at_top)
    # 118 recordings: three standard errors of a half are 0.14
    assert abs(clipped / len(at_top) - 0.5) < 0.2


def test_the_share_of_clipped_recordings_is_another_set():
    assert FullScale(clipped=0.5).key() != FullScale(clipped=0.25).key()
    assert FullScale().key().startswith("full_scale-")


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", True])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=r"^clipped = "):
        FullScale(clipped=share)


def test_normalised_sources_reach_full_scale_and_stay_within(prepared):
    loader = Mixtures(normalise="sources", segment_s=0.5).loader(prepared, "val", seed=0)
    at_top = 0
    for batch in loader:
        assert batch.sources is not None
        peaks = batch.sources.abs().amax((1, 2, 3))
        assert (peaks <= 1).all()
        assert (peaks > 1 - 1e-6).all()
        assert (batch.waveform - batch.sources.sum(1)).abs().max() < 1e-6
        at_top += int((batch.sources.abs() > 1 - 1e-6).sum())
    assert at_top > 10 * 64  # flat tops, not single peaks


def test_ones_are_ones(prepared):
    examples = Ones(frame_samples=8, frames=5, train=20, val=3, batch_size=16)
    batches = list(examples.loader(prepared, "train", seed=0))
    assert [len(one) for one in batches] == [16, 4]
    assert all((one.waveform == 1).all() and one.waveform.shape[1:] == (1, 40) for one in batches)
    assert batches[1].index.tolist() == [16, 17, 18, 19]
    assert len(list(examples.loader(prepared, "val", seed=0))) == 1
