"""What Lightning's users know a trainer to take, in real runs."""

import json

import pytest
import torch

from lightning_sep import cli, experiment
from lightning_sep.callbacks.average import Average
from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.parts import build_parts, identify
from lightning_sep.run_folder import RunFolder
from lightning_sep.tasks.separation import Separation
from tests.callbacks.hooks import Seen
from tests.faults.harness import history

SEEN = "trainer.callbacks=[{_target_: tests.callbacks.hooks.Seen, factor: 2.0}]"


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "tests")
    Seen.after_steps.clear()
    Seen.in_validation.clear()


def stopped(settings, home, **stops):
    """A run that is interrupted after being asked so often, again and again, and says where."""
    for place, stop in stops.items():
        asked = iter([False] * stop + [True] * 1000)
        with pytest.raises(Interrupted, match=place.partition("_")[0]):
            experiment.run(settings, home=home, should_stop=lambda asked=asked: next(asked))
    return experiment.run(settings, home=home)


def test_all_of_it_together_goes_on_bit_for_bit(settings, data_home, tmp_path):
    more = ["trainer.accumulate=2", "trainer.ema=0.5", "trainer.limit_batches=3", SEEN]
    more += ["examples.train=32", "examples.batch_size=2", "trainer.checkpoint_every_steps=1"]
    more += ["plan=second_stage", "plan.patience=1"]
    made = settings(*more)
    whole = stopped(made, tmp_path / "whole")
    parts = stopped(made, tmp_path / "parts", validation=4, step=3, step_2=2)
    assert parts.record["attempts"] == 4
    assert history(parts.folder) == history(whole.folder)
    assert parts.record["metrics"] == whole.record["metrics"]
    assert parts.record["hashes"]["weights"] == whole.record["hashes"]["weights"]
    assert history(whole.folder)[0]["step"] == 3
    large = build_parts(settings("examples.train=32", "examples.batch_size=4"))
    assert whole.record["coverage"] == large.examples.coverage(
        large.prepared, seed=0, epochs=len(history(whole.folder)), limit=3
    )
    assert [row["train/told"] for row in history(whole.folder)][:2] == [6.0, 12.0]


def test_micro_batches_are_a_run_of_large_ones(settings, undisturbed, tmp_path, monkeypatch):
    made = settings("examples.batch_size=2", "trainer.accumulate=2")
    held = []
    raw = Separation.raw

    def noted(task, batch, generator):
        if generator is not None:  # in training
            held.append(len(batch))
        return raw(task, batch, generator)

    monkeypatch.setattr(Separation, "raw", noted)
    found = experiment.run(made, home=tmp_path)
    assert set(held) == {2}, "the net holds one of them at a time"
    assert found.run_id != undisturbed.run_id
    for row, other in zip(history(found.folder), history(undisturbed.folder), strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)


def test_the_mean_of_the_weights_is_validated_kept_and_tested(settings, data_home, tmp_path):
    found = experiment.run(settings("trainer.ema=0.75", SEEN, "trainer.epochs=2"), home=tmp_path)
    first = build_parts(settings()).task
    mean = {name: value.detach().clone() for name, value in first.named_parameters()}
    means = []
    for weights in Seen.after_steps:
        mean = {name: 0.75 * mean[name] + 0.25 * weights[name] for name in mean}
        means.append(mean)
    steps = [row["step"] for row in history(found.folder)]
    for step, shown in zip(steps, Seen.in_validation[: len(steps)], strict=True):
        for name, value in means[step - 1].items():
            torch.testing.assert_close(shown[name], value, rtol=1e-5, atol=1e-7)
    best = best_weights(RunFolder(found.folder), None)
    assert best is not None
    for name, value in means[best[1]["global_step"] - 1].items():
        torch.testing.assert_close(best[1]["state_dict"][name], value, rtol=1e-5, atol=1e-7)
        assert not torch.equal(Seen.after_steps[best[1]["global_step"] - 1][name], value)


def test_what_a_net_measures_by_itself_is_averaged_too():
    module = torch.nn.Module()
    module.net = torch.nn.Sequential(torch.nn.BatchNorm1d(2, momentum=1.0))
    average = Average(0.75)
    average.setup(None, module, "fit")  # type: ignore[arg-type]
    average.begin()
    module.net(torch.tensor([[1.0, 8.0], [3.0, 8.0]]))
    average.on_train_batch_end(None, module)  # type: ignore[arg-type]
    with average.shown():
        assert module.net[0].running_mean.tolist() == [0.5, 2.0]
    assert module.net[0].running_mean.tolist() == [2.0, 8.0]


def test_a_second_stage_begins_with_a_mean_of_its_own(settings, data_home, tmp_path):
    made = settings(
        *("trainer.ema=0.75", "optimizer.learning_rate=0.05", "trainer.epochs=4", SEEN),
        *("plan=second_stage", "plan.patience=1", "plan.second_rate=1e-12"),
    )
    found = experiment.run(made, home=tmp_path)
    rates = [row["train/learning_rate"] for row in history(found.folder)]
    assert (rates[0], rates[-1]) == (0.05, 1e-12)
    best = best_weights(RunFolder(found.folder), None)
    assert best is not None
    for name, value in Seen.in_validation[-1].items():
        torch.testing.assert_close(value, best[1]["state_dict"][name], rtol=1e-5, atol=1e-7)


def test_a_hook_of_ones_own_is_part_of_the_id_and_may_end_the_run(settings, data_home, tmp_path):
    plain, hooked = settings("trainer.epochs=3"), settings("trainer.epochs=3", SEEN)
    other = settings("trainer.epochs=3", SEEN.replace("2.0", "1.0"))
    assert len({identify(one) for one in (plain, hooked, other)}) == 3
    ends = SEEN.replace("factor: 2.0", "stop_after: 1")
    assert len(history(experiment.run(settings(ends), home=tmp_path).folder)) == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            SEEN.replace("Seen, factor: 2.0", "NoHook"),
            r"callbacks = .*NoHook.*: entries with _target_ of a",
        ),
        (SEEN.replace("factor", "fctor"), r"trainer\.callbacks\[0\]\.fctor: not a setting of Seen"),
        ("trainer.callbacks=[early]", "callbacks = 'early': entries with _target_"),
        ("trainer.ema=1", "ema = 1.0"),
        ("trainer.accumulate=0", "accumulate = 0"),
        ("trainer.limit_batches=0", "limit_batches = 0"),
        ("trainer.profiler=fast", "one of 'simple', 'advanced', 'pytorch'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_enters(setting, words, settings):
    with pytest.raises(ConfigError, match=words) as refused:
        settings(setting)
    assert "\n" not in str(refused.value)


def test_a_limit_and_a_profile_leave_a_record_of_what_ran(settings, undisturbed, tmp_path):
    made = settings("trainer.profiler=simple", "trainer.limit_batches=1", "trainer.epochs=1")
    found = experiment.run(made, home=tmp_path)
    [row] = history(found.folder)
    assert row["step"] == 1
    whole, part = undisturbed.record["coverage"], found.record["coverage"]
    assert part["first_epoch"]["seconds"] < whole["first_epoch"]["seconds"]
    assert part["test"] == whole["test"], "four examples are one batch"
    said = (found.folder / f"fit-profile.{1}.txt").read_text()
    assert "run_training_epoch" in said
    unwatched = settings("trainer.limit_batches=1", "trainer.epochs=1")
    assert identify(unwatched) == found.run_id


def test_one_batch_of_each_leaves_nothing_behind(settings, home, capsys):
    said = [one for one in settings().overrides if not one.startswith("tracking")]
    code = cli.main(["train", *said, "trainer.fast_dev_run=true", "tracking=csv"])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    assert (
        shown.out == "one batch of training, validation and test went through; nothing was kept\n"
    )
    assert not home.exists()
    code = cli.main(["train", *said, "trainer.fast_dev_run=true", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["trainer"]["limit_batches"] == 1
    assert record["settings"]["tracking"]["mode"] == "disabled", "nobody is told of it"
    code = cli.main(["sweep", "--grid", "head=tanh,sine", *said, "trainer.fast_dev_run=true"])
    assert code == 2
    assert "trainer.fast_dev_run is for one run" in capsys.readouterr().err
