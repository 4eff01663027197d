"""More epochs for a run that has finished."""

import pytest

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.fsio import read_lines
from lightning_sep.run_folder import RunFolder
from tests.faults.harness import history


@pytest.fixture(scope="module")
def short(settings, data_home, tmp_path_factory):
    """Two epochs, with the checkpoint after them."""
    home = tmp_path_factory.mktemp("short")
    made = settings("trainer.epochs=2", "trainer.keep_last=true")
    return experiment.run(made, home=home)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_more_epochs_are_bit_for_bit_those_of_a_run_that_never_stopped(
    short, undisturbed, settings, tmp_path
):
    home, before = short.folder.parent, content(short.folder)
    asked = iter([False] * 2 + [True] * 1000)
    longer = settings("trainer.epochs=3")
    with pytest.raises(Interrupted):
        experiment.run(longer, home=home, train_on=short.run_id, should_stop=lambda: next(asked))
    assert len(history(home / undisturbed.run_id)) == 2, "it began where the other has ended"
    found = experiment.run(longer, home=home)
    assert found.run_id == undisturbed.run_id
    assert history(found.folder) == history(undisturbed.folder)
    assert found.record["metrics"] == undisturbed.record["metrics"]
    for part in ("weights", "examples"):
        assert found.record["hashes"][part] == undisturbed.record["hashes"][part]
    assert [one.get("trained_on_from") for one in found.record["attempted"]] == [short.run_id, None]
    assert not RunFolder(found.folder).steps()
    assert content(short.folder) == before


def test_what_ended_by_itself_ends_there_again(settings, data_home, tmp_path):
    made = ["trainer.patience=1", "optimizer.learning_rate=1e-12", "trainer.keep_last=true"]
    short = experiment.run(settings(*made, "trainer.epochs=2"), home=tmp_path)
    assert len(history(short.folder)) == 2
    longer = settings(*made, "trainer.epochs=5")
    found = experiment.run(longer, home=tmp_path, train_on=short.run_id)
    alone = experiment.run(longer, home=tmp_path / "alone")
    assert history(found.folder) == history(alone.folder)
    assert found.record["metrics"] == alone.record["metrics"]


@pytest.mark.parametrize(
    ("asks", "words"),
    [
        (["trainer.epochs=1"], "it has 2 epochs; trainer.epochs=1 asks for no more"),
        (["head=tanh"], r": head would be another; only trainer\.epochs may be"),
        (["seed=1"], "seed would be another"),
        (
            ["net=sudo_rm_rf_small"],
            r": net(\.\w+)?(, net(\.\w+)?){4} and \d+ more would be another; only trainer\.epochs "
            r"may be\. `--config \S+` takes all of its settings$",
        ),
        (["trainer.fast_dev_run=true"], "keeps nothing to go on with: leave --train-on out"),
    ],
)
def test_anything_but_more_epochs_is_refused(short, settings, asks, words):
    with pytest.raises(ConfigError, match=words):
        experiment.run(settings(*asks), home=short.folder.parent, train_on=short.run_id)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["plan=warmup_cosine", "trainer.keep_last=true"], "plan=WarmupCosine goes by the length"),
        (["reweighting=curriculum", "trainer.keep_last=true"], "reweighting=Curriculum goes by"),
        (["plan=on_plateau"], "it keeps no checkpoint to go on from"),
    ],
)
def test_what_would_have_gone_otherwise_is_refused(more, words, settings, data_home, tmp_path):
    short = experiment.run(settings(*more, "trainer.epochs=1"), home=tmp_path)
    assert bool(RunFolder(short.folder).steps()) is ("trainer.keep_last=true" in more)
    with pytest.raises(ConfigError, match=words):
        experiment.run(settings(*more), home=tmp_path, train_on=short.run_id)
    assert len(read_lines(short.folder / "attempts.jsonl")) == 1
