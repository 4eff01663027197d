"""A run that begins with another one's weights."""

import shutil

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.fsio import read_lines
from lightning_sep.parts import build_parts, identify, print_config
from lightning_sep.reproduce import reproduce
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import compose, from_tree
from lightning_sep.settings.file import read_settings
from lightning_sep.sweep.runner import ExperimentRunner
from lightning_sep.warm_start import pinned

MONITOR = "val/si_sdr_improvement_db"


@pytest.fixture
def home(undisturbed, tmp_path, monkeypatch):
    """A home with one finished run."""
    shutil.copytree(undisturbed.folder, tmp_path / "runs" / undisturbed.run_id)
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path / "runs"))
    return tmp_path / "runs"


def weights(folder):
    return best_weights(RunFolder(folder), None)[1]["state_dict"]


def test_training_begins_with_the_best_weights_of_the_parent(undisturbed, home, settings):
    """And once more, when those of its own best epoch are lost on the way."""
    still = settings(
        f"init_from={undisturbed.run_id[:6]}", "trainer.epochs=2", "optimizer.learning_rate=1e-30"
    )
    reported = []

    def report(epoch: int, value: float) -> bool:
        reported.append(epoch)
        if len(reported) == 2:
            for path in RunFolder(home / identify(pinned(still, home))).bests():
                path.unlink()
        return False

    found = experiment.run(still, home=home, report=report)
    assert reported == [0, 1, 0, 1]
    for row in read_lines(found.folder / "metrics.jsonl"):
        assert row[MONITOR] == pytest.approx(undisturbed.monitored, rel=1e-5)
    for name, value in weights(undisturbed.folder).items():
        torch.testing.assert_close(weights(found.folder)[name], value, rtol=0, atol=1e-9)
    known = undisturbed.record["hashes"]["weights"][:12]
    assert found.record["settings"]["init_from"] == f"{undisturbed.run_id}@{known}"
    assert f"init_from={undisturbed.run_id}@{known}" in found.record["overrides"]


def test_the_id_is_that_of_the_weights_wherever_they_lie(undisturbed, home, settings, tmp_path):
    begun = pinned(settings(f"init_from={undisturbed.run_id}"), home)
    by_folder = pinned(settings(f"init_from={home / undisturbed.run_id}"), tmp_path)
    assert identify(begun) == identify(by_folder)
    assert identify(begun) != undisturbed.run_id
    elsewhere = from_tree(begun.tree)  # as a record of somebody else says it
    assert identify(pinned(elsewhere, tmp_path)) == identify(begun)
    overrides = ["init_from=" + undisturbed.run_id, *settings().overrides]
    of_a_sweep, _ = ExperimentRunner(home, None).prepare(overrides)
    assert of_a_sweep == identify(begun)
    file = tmp_path / "mine.yaml"
    file.write_text(print_config(settings(f"init_from={undisturbed.run_id}"), home=home))
    taken_back = compose(read_settings(file))
    assert taken_back.tree == begun.tree
    assert identify(taken_back) == identify(begun)


def test_head_and_loss_begin_anew_where_they_are_others(undisturbed, home, settings):
    start = build_parts(
        pinned(settings(f"init_from={undisturbed.run_id}", "head=sine"), home)
    ).start
    assert start is not None
    assert {name.split(".")[0] for name in start} == {"net"}


def test_another_net_is_refused_with_the_first_name_that_does_not_fit(undisturbed, home, settings):
    begun = settings(f"init_from={undisturbed.run_id}", "head=mu_law_softmax")
    with pytest.raises(ConfigError, match=r"another net: net\.\S+ is \[.*\] here and \[.*\] there"):
        experiment.run(begun, home=home)
    assert sorted(one.name for one in home.iterdir()) == [undisturbed.run_id]


def test_it_goes_on_bit_for_bit_and_is_reproduced_where_its_parent_is(undisturbed, home, settings):
    begun = settings(f"init_from={undisturbed.run_id}", "trainer.epochs=1")
    asked = iter([False] * 2 + [True] * 1000)
    with pytest.raises(Interrupted):
        experiment.run(begun, home=home, should_stop=lambda: next(asked))
    found = experiment.run(begun, home=home)
    assert found.record["attempts"] == 2
    assert reproduce(found.folder, home=home).grade == "bitwise"
    shutil.rmtree(home / undisturbed.run_id)
    assert experiment.run(from_tree(found.record["settings"]), home=home).record == found.record
    with pytest.raises(ConfigError, match=f"bring the folder of run {undisturbed.run_id}"):
        reproduce(found.folder, home=home)


def test_what_is_no_finished_run_is_refused(undisturbed, home, settings):
    with pytest.raises(ConfigError, match="no run 'nobody'"):
        experiment.run(settings("init_from=nobody"), home=home)
    (home / undisturbed.run_id / "checkpoints" / "best.1.ckpt").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="no whole checkpoint with the weights of its record"):
        experiment.run(settings(f"init_from={undisturbed.run_id}"), home=home)


def test_an_id_all_of_digits_stays_one(settings):
    assert settings("init_from=123456789012").tree["init_from"] == "123456789012"
    with pytest.raises(ConfigError, match=r"init_from = \[1\]: a run's id or folder is needed"):
        settings("init_from=[1]")
