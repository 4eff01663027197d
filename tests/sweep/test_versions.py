"""What a sweep was begun with: the entries of its settings are part of it, as far as they count."""

from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lightning_sep.errors import ConfigError
from lightning_sep.leases.presence import Peers, Presence
from lightning_sep.sweep.definition import load_sweep
from lightning_sep.sweep.folder import create, open_sweep
from lightning_sep.sweep.names import workers_folder
from lightning_sep.sweep.versions import entry_versions
from lightning_sep.sweep.worker import Stop, Worker

TRAINER = "_target_: lightning_sep.trainer_settings.Trainer\nepochs: 3\nprogress: true\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Entries of a user's own."""
    for name in ("trainer/short", "head/mine"):
        path = tmp_path / "own" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(TRAINER)
    return tmp_path / "own"


def edited(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (edited("epochs: 3", "epochs: 4"), False),
        (edited("epochs: 3", "epochs:   3  # three"), True),
        (edited("progress: true", "progress: false"), True),  # changes no number
        (lambda path: path.unlink(), False),
        (lambda path: path.with_name("other.yaml").write_text(TRAINER), True),
    ],
)
def test_an_entry_is_the_same_while_its_settings_that_count_are(
    folder: Path, edit: Callable[[Path], object], same: bool
) -> None:
    before = entry_versions(["trainer/short"], str(folder))
    assert list(before) == ["conf/trainer/short.yaml"]
    edit(folder / "trainer" / "short.yaml")
    assert (entry_versions(["trainer/short"], str(folder)) == before) is same


def test_fault_19_a_sweep_is_refused_whose_entries_were_edited_and_no_others(
    sandbox: object, folder: Path, tmp_path: Path
) -> None:
    path = sandbox.write()  # type: ignore[attr-defined]
    definition = load_sweep(path, config_dir=str(folder))
    create(tmp_path / "runs", definition, entries=["trainer/short"])
    edited("epochs: 3", "epochs: 4")(folder / "head" / "mine.yaml")
    study = open_sweep(tmp_path / "runs", "quick")
    assert study.definition.config_dir == str(folder), "where its runs find these entries"
    study.check()
    edited("epochs: 3", "epochs: 4")(folder / "trainer" / "short.yaml")
    for refused in (study.check, lambda: open_sweep(tmp_path / "runs", "quick")):
        with pytest.raises(ConfigError, match=r"begun with conf/trainer/short\.yaml .*--name NEW"):
            refused()
    with Presence(workers_folder(study.home), patience_s=15.0) as presence:
        runner = sandbox.runner  # type: ignore[attr-defined]
        worker = Worker(study, runner, presence, Peers(presence.folder), Stop())
        with pytest.raises(ConfigError, match=r"begun with conf/trainer/short\.yaml"):
            worker.step()
    assert [trial.state for trial in study.trials()] == [TrialState.WAITING]
    assert not list(study.home.glob("*/record.json")), "nothing is run of a mixture of both"
    with pytest.raises(ConfigError, match=r"conf/trainer/short\.yaml"):
        create(tmp_path / "runs", definition, entries=["trainer/short"])
