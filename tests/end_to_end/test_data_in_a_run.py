"""What a run says of its data: that they are read from files, what was heard, what is not said."""

from pathlib import Path

import pytest

from lightning_sep.cli import main
from lightning_sep.data.examples import FIXED_SEEDS
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.synthetic import Synthetic
from lightning_sep.record import read_records

TOLD = [
    *("train", "task=verification", "tracking=none", "trainer.epochs=2", "trainer.progress=false"),
    *("examples.train=2", "examples.speakers=4", "examples.val=4", "data.cache_limit_mb=0"),
]


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]):
    assert main(TOLD) == 0
    said = capsys.readouterr()
    [record] = read_records(home)
    return record, said, (home / record["run_id"] / "log.txt").read_text()


def test_a_run_tells_of_its_data(run, data_home):
    record, said, log = run
    slow = "synthetic is read from its files, about "
    assert slow in said.err
    assert slow in log
    few = "the test part of synthetic has 4 speakers: its error rates hold for them alone"
    assert record["facts"]["remarks"][0].startswith(few)
    assert few in said.out
    assert few in log
    prepared = Synthetic().open(data_home)
    examples = Snippets(train=2, speakers=4, val=4)
    expected = examples.coverage(prepared, seed=record["seed"], epochs=2)
    assert record["coverage"] == expected
    assert set(expected) == {"first_epoch", "train", *FIXED_SEEDS}
    assert expected["first_epoch"]["seconds"] < expected["train"]["seconds"]
    # four speakers with four files each and ten snippets of 0.8 s, three to a file of 2.4 s
    metrics = record["metrics"]
    assert metrics["test/trial_speakers"] == 4
    assert metrics["test/trials_same"] + metrics["test/pairs_in_one_session"] == 4 * 45
    assert metrics["test/pairs_in_one_session"] == 4 * (2 * 3 + 2 * 1)
    assert metrics["test/trials_different"] == 6 * 100
