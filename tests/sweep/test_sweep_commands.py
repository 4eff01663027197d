"""Launching, resuming, stopping and looking at sweeps."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightning_sep.errors import ConfigError, Interrupted, SweepError
from lightning_sep.fsio import PATIENCE, write_json
from lightning_sep.leases.lease import Content
from lightning_sep.leases.process import this_process
from lightning_sep.sweep import commands, status, steer
from lightning_sep.sweep.singles import singles


def test_a_sweep_runs_every_point_once_and_its_finalists_on_fresh_seeds(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sandbox.launch(sandbox.write()) == 0
    sandbox.check()
    report = sandbox.record(sandbox.home / "sweeps" / "quick" / "trials.json")
    assert sorted(trial["overrides"][0] for trial in report["trials"]) == [
        f"rate={rate}" for rate in (0.05, 0.1, 0.2, 0.3, 0.4)
    ]
    assert [(final["trial"], final["seed"]) for final in report["finals"]] == [
        (finalist["trial"], seed) for finalist in report["finalists"] for seed in (1000, 1001)
    ]
    assert capsys.readouterr().out.splitlines()[-1] == str(sandbox.home / "page.html")
    assert sandbox.pages == [["quick"]]


def test_finalists_are_the_best_of_the_search_and_the_best_is_chosen_by_the_finals(
    sandbox: Any,
) -> None:
    sandbox.launch(sandbox.write())
    report = sandbox.record(sandbox.home / "sweeps" / "quick" / "trials.json")
    values = sorted(trial["value"] for trial in report["trials"])
    assert [one["search_value"] for one in report["finalists"]] == values[:2]
    assert report["best"]["mean"] == min(one["mean"] for one in report["finalists"])
    own = [f["value"] for f in report["finals"] if f["trial"] == report["best"]["trial"]]
    assert report["best"]["mean"] == pytest.approx(sum(own) / 2, rel=1e-12)


def test_a_finalist_that_failed_on_a_fresh_seed_is_never_the_best(sandbox: Any) -> None:
    path = sandbox.write()
    sandbox.launch(path)
    folder = sandbox.home / "sweeps" / "quick"
    best = sandbox.record(folder / "trials.json")["best"]["trial"]

    def fails(trial: int) -> dict[str, Any]:
        final = folder / "finals" / f"final-{trial:04d}-1000.json"
        content = sandbox.record(final) | {"state": "failed", "value": None, "reason": "diverged"}
        final.write_text(json.dumps(content))
        sandbox.launch(path)
        report: dict[str, Any] = sandbox.record(folder / "trials.json")
        return report

    second = fails(best)["best"]["trial"]
    assert second != best
    report = fails(second)
    assert report["best"] is None
    assert commands.reports.verdict(report) == (
        "quick: no finalist finished all its fresh seeds (trials: 5 finished)"
    )


def test_a_finished_sweep_says_so_again_without_starting_workers(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sandbox.write()
    sandbox.launch(path)
    first = capsys.readouterr().out
    runs = {p: p.stat().st_mtime_ns for p in sandbox.home.glob("*/record.json")}
    (sandbox.home / "sweeps" / "quick" / "worker-0.log").unlink()
    assert sandbox.launch(path) == 0
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_mtime_ns for p in sandbox.home.glob("*/record.json")} == runs
    assert not (sandbox.home / "sweeps" / "quick" / "worker-0.log").exists()


def test_several_sweeps_are_run_by_the_same_workers(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sandbox.write("first"), sandbox.write("second", settings=["steps=3"])
    assert sandbox.launch(first, second) == 0
    for name in ("first", "second"):
        sandbox.check(name)
    assert sandbox.pages == [["first", "second"]]
    assert (sandbox.home / "sweeps" / "first" / "worker-0.log").exists()
    assert not (sandbox.home / "sweeps" / "second" / "worker-0.log").exists()


def test_a_larger_budget_goes_on_with_the_same_sweep(sandbox: Any) -> None:
    path = sandbox.write(trials=2, finalists=1)
    sandbox.launch(path)
    before = [trial.params for trial in sandbox.open().trials()]
    sandbox.launch(path, trials=4)
    sandbox.check()
    assert [trial.params for trial in sandbox.open().trials()][:2] == before


def test_a_budget_beyond_a_finite_space_ends_with_the_space(sandbox: Any) -> None:
    sandbox.launch(sandbox.write(trials=50))
    assert len(sandbox.open().trials()) == 5


def test_a_continuous_space_uses_its_whole_budget_and_no_more(sandbox: Any) -> None:
    body = "yield f\"rate={trial.suggest_float('rate', 0.05, 0.45):.4f}\""
    sandbox.launch(sandbox.write(body=body, trials=7), workers=3)
    sandbox.check()
    assert len(sandbox.open().trials()) == 7


def test_repeats_judge_a_setting_by_its_mean(sandbox: Any) -> None:
    sandbox.launch(sandbox.write(repeats=3, finalists=0))
    report = sandbox.record(sandbox.home / "sweeps" / "quick" / "trials.json")
    for trial in report["trials"]:
        values = [
            sandbox.record(sandbox.home / run / "record.json")["value"] for run in trial["runs"]
        ]
        assert len(set(trial["runs"])) == 3
        assert trial["value"] == pytest.approx(sum(values) / 3, rel=1e-12)
    assert not report["best"]["confirmed"]


def test_a_pruner_ends_poor_trials_early(sandbox: Any) -> None:
    path = sandbox.write(trials=5, settings=["steps=8"], finalists=1, pruner="PRUNER")
    text = path.read_text().replace("'PRUNER'", "optuna.pruners.ThresholdPruner(upper=0.5)")
    path.write_text("import optuna\n" + text)
    sandbox.launch(path)
    sandbox.check()
    states = {t.params["rate"]: t.state.name for t in sandbox.open().trials()}
    assert states[0.05] == "PRUNED"
    assert states[0.4] == "COMPLETE"


def test_fault_19_another_space_under_the_same_name_is_refused(sandbox: Any) -> None:
    path = sandbox.write()
    sandbox.launch(path)
    path.write_text(path.read_text().replace("0.05", "0.06"))
    with pytest.raises(ConfigError, match=r"another space.*--name NEW"):
        sandbox.launch(path)
    assert sandbox.launch(path, name="second") == 0
    sandbox.check("second")


def test_fault_19_other_settings_under_the_same_name_are_refused(sandbox: Any) -> None:
    path = sandbox.write()
    sandbox.launch(path)
    with pytest.raises(ConfigError, match="--name NEW"):
        sandbox.launch(path, overrides=["steps=5"])


def test_fault_20_a_worker_with_other_versions_is_refused(sandbox: Any) -> None:
    sandbox.begin()
    path = sandbox.home / "sweeps" / "quick" / "sweep.json"
    record = sandbox.record(path)
    record["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    worker = sandbox.worker()
    assert worker.wait(30) == 2
    assert "begun with torch 1.0" in (sandbox.home.parent / "worker-0.log").read_text()


def test_a_stopped_sweep_ends_and_goes_on_when_launched_again(
    sandbox: Any, wait_until: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sandbox.write(settings=["steps=40", "step_s=0.03"])
    sandbox.begin(settings=["steps=40", "step_s=0.03"])
    workers = [sandbox.worker(), sandbox.worker()]
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 2)
    steer.stop("quick", sandbox.home)
    assert [worker.wait(10) for worker in workers] == [0, 0]  # nobody is to go on
    capsys.readouterr()
    status.status("quick", json=True, home=sandbox.home)
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "stopped"
    assert len(shown["waiting"]) == 2
    assert not shown["running"]
    assert "running" not in shown["trials"]
    assert sandbox.worker().wait(10) == 0  # a requeued worker finds the stop and does nothing
    assert len(sandbox.open().trials()) == 2
    sandbox.launch(path, workers=3)
    sandbox.check()


def test_a_launch_whose_sweep_is_stopped_says_how_to_go_on(sandbox: Any) -> None:
    import threading

    path = sandbox.write(settings=["steps=200", "step_s=0.03"])
    sandbox.begin(settings=["steps=200", "step_s=0.03"])
    timer = threading.Timer(2.0, steer.stop, ("quick", sandbox.home))
    timer.start()
    with pytest.raises(Interrupted, match="the same command goes on"):
        sandbox.launch(path)
    assert sandbox.open().stopping


def test_stopping_now_ends_those_who_hold_work_and_nobody_else(sandbox: Any) -> None:
    """Whoever has given its trial back may work for another sweep by now."""
    study = sandbox.begin()
    folder = study.folder / "leases"
    folder.mkdir(exist_ok=True)
    busy, free = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        for process, token in ((busy, "claimed"), (free, "")):
            start = Path(f"/proc/{process.pid}/stat").read_text().split()[21]
            owner = replace(this_process(), pid=process.pid, start=start)
            content = Content(generation=1, token=token, worker="w", owner=owner)
            write_json(folder / f"trial-{process.pid}.json", content.as_json())
        assert steer.stop("quick", sandbox.home) == 0
        assert (busy.poll(), free.poll()) == (None, None), "they are asked to save"
        assert steer.stop("quick", sandbox.home, now=True) == 0
        assert busy.wait(timeout=20) == -signal.SIGKILL
        free.terminate()
        assert free.wait(timeout=20) == -signal.SIGTERM, "it was still there"
    finally:
        for process in (busy, free):
            process.kill()
            process.wait()


LOG = """10:00:00 quick: trial 1: rate=0.1
of trial 1
10:00:01 quick: trial 12: rate=0.2
of trial 12
10:00:02 other: trial 1: rate=0.3
10:00:03 quick: final of trial 1, seed 1000: rate=0.1
of its final
10:00:04 quick: done
10:00:05 other: trial 3: rate=0.4
"""


def test_logs_of_a_trial_are_what_was_written_while_it_ran(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (sandbox.begin().folder / "worker-0.log").write_text(LOG)
    lines = LOG.splitlines()
    for trial, said in ((1, [*lines[:2], *lines[5:7]]), (12, lines[2:4])):
        assert steer.logs("quick", trial, sandbox.home) == 0
        assert capsys.readouterr().out.splitlines()[1:] == said
    with pytest.raises(ConfigError, match="no worker of quick has written of trial 3 yet"):
        steer.logs("quick", 3, sandbox.home)


BEGUN = "2026-01-01T00:00:0{}+00:00"


def test_of_runs_begun_by_hand_it_is_told_what_runs_has_stopped_and_has_failed(
    sandbox: Any,
) -> None:
    me = this_process()
    gone = replace(me, pid=2**22 + 1)
    attempt = {"started": BEGUN.format(5), "purpose": "single", "overrides": ["head=tanh"]}
    attempt |= {"epochs": 9, "monitor": "val/x"}
    held = {"generation": 2, "token": "t", "worker": "w"}
    notes: dict[str, dict[str, Any]] = {
        "aa": {"log.txt": f"{BEGUN.format(4)} failed: too little memory\n"},
        "bb": {"log.txt": f"{BEGUN.format(6)} failed: too little memory\n"},
        "cc": {"lease.json": json.dumps(Content(**held, owner=gone).as_json())},
        "dd": {"lease.json": json.dumps(Content(**held, owner=me).as_json())},
        "ee": {"attempts.jsonl": json.dumps(attempt | {"purpose": "search"}) + "\n"},
        "ff": {"record.json": "{}"},
    }
    for name, files in notes.items():
        (sandbox.home / name).mkdir(parents=True)
        for file, text in ({"attempts.jsonl": json.dumps(attempt) + "\n"} | files).items():
            (sandbox.home / name / file).write_text(text)
    for number, rows in ((1, 5), (2, 3)):  # the later attempt went on from an earlier epoch
        lines = [json.dumps({"epoch": epoch, "val/x": -epoch}) for epoch in range(rows)]
        (sandbox.home / "dd" / f"metrics.{number}.jsonl").write_text("\n".join(lines) + "\n")
    found = singles(sandbox.home)
    about = {"overrides": ["head=tanh"], "epochs": 9, "metric": "val/x"}
    again = "the same command goes on"
    assert found == [
        {**about, "run": "dd", "state": "running", "by": str(me), "epoch": 3, "value": -2},
        *(
            {**about, "run": run, "state": state, "reason": reason, "epoch": 0, "value": None}
            for run, state, reason in (
                ("bb", "failed", "too little memory; the same command tries again"),
                ("aa", "stopped", again),
                ("cc", "stopped", f"{gone} has died; {again}"),
            )
        ),
    ]


def test_workers_that_cannot_start_end_the_launch_with_their_last_words(sandbox: Any) -> None:
    path = sandbox.write()
    sandbox.command = lambda names: ["python3", "-c", "raise SystemExit('no such module')"]
    with pytest.raises(SweepError, match="no such module"):
        sandbox.launch(path)


def test_status_tells_why_a_trial_failed(sandbox: Any, capsys: pytest.CaptureFixture[str]) -> None:
    body = "yield f\"fault={trial.suggest_categorical('fault', ['none', 'bug', 'diverge'])}\""
    assert sandbox.launch(sandbox.write(body=body, finalists=1)) == 0
    capsys.readouterr()
    status.status(home=sandbox.home)
    text = capsys.readouterr().out
    assert "ZeroDivisionError: a mistake in the code" in text
    assert "NonFiniteLoss: loss is not finite at step 3" in text


def test_a_sweep_in_which_nothing_finishes_exits_1(sandbox: Any) -> None:
    body = "yield f\"fault={trial.suggest_categorical('fault', ['bug', 'diverge'])}\""
    assert sandbox.launch(sandbox.write(body=body)) == 1


def test_status_reads_a_sweep_without_running_its_file(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.begin()
    path = sandbox.home / "sweeps" / "quick" / "sweep.json"
    record = sandbox.record(path)
    record["source"] = "raise SystemExit('was run')"
    path.write_text(json.dumps(record))
    status.status("quick", home=sandbox.home)
    shown = capsys.readouterr().out
    assert "trials: 5 in all" in shown
    assert "jobs:" not in shown, "none was ever submitted"


def test_status_of_an_unknown_sweep_names_the_known_ones(sandbox: Any) -> None:
    sandbox.begin("known")
    with pytest.raises(ConfigError, match=r"no sweep 'other'.*Known: known"):
        status.status("other", home=sandbox.home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_fault_2_whatever_asks_the_one_command_to_end_is_noted_and_ends_nothing(
    number: signal.Signals,
) -> None:
    """It then asks its workers to save; schedulers send SIGUSR1 before their time is over."""
    before = signal.getsignal(number)
    with commands._signals() as received:
        os.kill(os.getpid(), number)
        assert received == [number]
    assert signal.getsignal(number) is before


def test_a_home_of_before_that_is_gone_does_not_keep_a_new_one_waiting(
    sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PATIENCE, "home", tmp_path / "gone")
    assert sandbox.launch(sandbox.write()) == 0
    sandbox.check()
