"""The command: quick help, errors of one line, exit codes, and what goes to which stream."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import lightning_sep
from lightning_sep.cli import main
from lightning_sep.settings import entries

ROOT = Path(lightning_sep.__file__).parent.parent
COMMANDS = [
    "train", "sweep", "status", "stop", "worker", "leaderboard", "compare", "reproduce",
    "export", "verify", "data", "evaluate", "separate", "generate", "embed",
]  # fmt: skip
HEAVY = ["hydra", "omegaconf", "optuna", "torch", "lhotse", "numpy", "wandb", "pydantic", "rich"]
TINY = [
    "net.levels=1", "examples.train=16", "examples.val=16", "examples.test=16", "tracking=none",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder of the test's own, for runs and data too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_SEP_HOME", raising=False)
    monkeypatch.setenv("LIGHTNING_SEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lightning_sep", *arguments]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return done.stdout


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_of_a_command_shows_an_example(self, name, capsys):
        assert main([name, "--help"]) == 0
        assert f"    lightning-sep {name}" in capsys.readouterr().out

    def test_names_every_command(self, capsys):
        main(["--help"])
        told = re.findall(r"^    (\w+) {2,}", capsys.readouterr().out, re.MULTILINE)
        assert [name for name in told if name in COMMANDS] == COMMANDS

    @pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
    def test_imports_nothing_heavy(self, arguments):
        loaded = python(f"""
            import sys
            from lightning_sep.cli import main
            main({arguments!r})
            print("loaded:", [name for name in {HEAVY!r} if name in sys.modules])
        """)
        assert loaded.splitlines()[-1] == "loaded: []"

    def test_answers_in_less_than_half_a_second(self):
        took = []
        for _ in range(5):  # the best of five: other work on the machine is not its fault
            started = time.perf_counter()
            subprocess.run(command("train", "--help"), capture_output=True, check=True)
            took.append(time.perf_counter() - started)
        assert min(took) < 0.5

    @pytest.mark.parametrize("group", ["task", "head", "net", "reweighting", "loss", "data"])
    def test_of_train_lists_what_there_is(self, group, capsys):
        main(["train", "--help"])
        assert set(entries(group)) <= set(capsys.readouterr().out.split())

    def test_of_train_lists_the_users_own(self, folder, capsys):
        (folder / "conf" / "head").mkdir(parents=True)
        (folder / "conf" / "head" / "wobble.yaml").write_text("_target_: mine.Wobble\n")
        main(["train", "--help"])
        assert "wobble" in capsys.readouterr().out.split()

    @pytest.mark.parametrize("before", [True, False])
    def test_of_train_lists_those_of_config_dir(self, folder, capsys, before):
        (folder / "more" / "head").mkdir(parents=True)
        (folder / "more" / "head" / "wobble.yaml").write_text("_target_: mine.Wobble\n")
        chosen = ["--config-dir", "more"]
        main([*chosen, "train", "--help"] if before else ["train", *chosen, "--help"])
        assert "wobble" in capsys.readouterr().out.split()

    def test_tells_the_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"lightning-sep {lightning_sep.__version__}\n"


class TestWrongInput:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["trian"],
            ["train", "--jsn"],
            ["train", "head=tahn"],
            ["train", "head=tanh", "--config-dir", "nowhere"],
            ["train", "--config-dir"],
            ["stop"],
            ["stop", "nothing"],
            ["status", "nothing"],
            ["status", "one", "two"],
            ["sweep"],
            ["sweep", "nothing.py"],
            ["sweep", "--grid", "--workers", "0", "head=tanh,sine"],
            ["sweep", "--grid", "--trials", "many", "head=tanh,sine"],
            ["leaderboard", "nothing"],
            ["data"],
            ["data", "verify", "nothing"],
            ["data", "prepare", "nothing"],
            ["data", "prepare", "folder", "--source", "nowhere"],
            ["separate", "nothing", "a.wav", "--out", "o"],
            ["separate", "nothing", "a.wav"],
            ["generate", "nothing", "--seconds", "-1", "--out", "o.wav"],
            ["generate", "nothing", "--seconds", "inf", "--out", "o.wav"],
            ["embed", "nothing", "--out", "o.json"],
        ],
    )
    def test_is_answered_by_one_line_and_exit_code_2(self, arguments, capsys):
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert re.fullmatch(r"lightning-sep: error: .*\n", told.err)

    def test_in_several_places_is_told_at_once(self, capsys):
        assert main(["train", "head=tahn", "trainer.epochs=big"]) == 2
        assert "2 settings cannot be used" in capsys.readouterr().err

    def test_shows_its_origin_with_debug(self, capsys):
        assert main(["train", "head=tahn", "--debug"]) == 2
        assert "Traceback" in capsys.readouterr().err

    def test_may_ask_for_debug_before_the_command_too(self, capsys):
        assert main(["--debug", "train", "head=tahn"]) == 2
        assert "Traceback" in capsys.readouterr().err

    def test_is_found_in_settings_that_follow_an_option(self, capsys):
        assert main(["train", "seed=1", "--json", "head=tahn", "--debug", "loss=msee"]) == 2
        assert "2 settings cannot be used" in capsys.readouterr().err

    def test_leaves_nothing_behind(self, folder, capsys):
        main(["train", "head=tahn"])
        assert list(folder.iterdir()) == []


def test_an_unexpected_error_is_one_line_that_names_debug(folder, monkeypatch, capsys):
    (folder / "broken_net.py").write_text(
        textwrap.dedent("""
            from torch import nn

            class Broken(nn.Module):
                def __init__(self, inputs, outputs):
                    raise ZeroDivisionError("a bug\\nof somebody's own")
        """)
    )
    (folder / "conf" / "net").mkdir(parents=True)
    (folder / "conf" / "net" / "broken.yaml").write_text("_target_: broken_net.Broken\n")
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "broken_net")
    monkeypatch.syspath_prepend(folder)
    assert main(["train", "net=broken", "--print-model"]) == 1
    *told, last = capsys.readouterr().err.splitlines()
    assert not any("ZeroDivision" in line for line in told)  # how far the data are, maybe
    assert re.fullmatch(
        r"lightning-sep: error: ZeroDivisionError: a bug of somebody's own .*--debug.*", last
    )


def test_a_reader_that_has_read_enough_is_no_error():
    process = subprocess.Popen(
        command("train", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.fixture
def torch_watch(folder):
    """A module that tells the thread variables at the moment torch is first imported."""
    (folder / "torch_watch.py").write_text(
        textwrap.dedent("""
            import os, sys

            class Watch:
                def find_spec(self, name, path=None, target=None):
                    if name == "torch":
                        sys.meta_path.remove(self)
                        print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY"))

            sys.meta_path.insert(0, Watch())
        """)
    )


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("1", "1"), ("2", "2")])
def test_threads_are_settled_before_torch_is_imported(torch_watch, monkeypatch, given, threads):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # whatever the environment says
    asked = "" if given is None else f", 'trainer.threads={given}'"
    told = python(f"""
        import os, torch_watch
        from lightning_sep.cli import main
        main(["train", "optimizer.learning_rate=big"{asked}])
    """)
    assert told.splitlines()[0] == f"{threads} passive"


def test_threads_of_an_entry_of_ones_own_are_settled_too(torch_watch, folder, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    entry = (ROOT / "conf" / "trainer" / "default.yaml").read_text()
    (folder / "more" / "trainer").mkdir(parents=True)
    (folder / "more" / "trainer" / "wide.yaml").write_text(
        entry.replace("threads: 1", "threads: 2").replace("epochs: ", "epochs: big # ", 1)
    )
    told = python("""
        import torch_watch
        from lightning_sep.cli import main
        main(["--config-dir", "more", "train", "trainer=wide", "seed=1"])
    """)
    assert told.split()[0] == "2"


class TestData:
    def test_list_names_every_corpus(self, capsys):
        assert main(["data", "list"]) == 0
        told = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
        assert sorted(told) == entries("data")

    def test_list_is_one_document_with_json(self, capsys):
        assert main(["data", "list", "--json"]) == 0
        assert {one["name"] for one in json.loads(capsys.readouterr().out)} == set(entries("data"))

    def test_what_is_prepared_can_be_verified(self, capsys):
        assert main(["data", "prepare", "synthetic"]) == 0
        assert main(["data", "verify", "synthetic"]) == 0
        assert "is whole" in capsys.readouterr().out

    def test_what_is_not_prepared_says_how_to_prepare_it(self, capsys):
        assert main(["data", "verify", "synthetic"]) == 2
        assert "data prepare synthetic" in capsys.readouterr().err


class TestTrain:
    def test_prints_one_record_with_json(self, capsys):
        assert main(["train", *TINY, "trainer.epochs=1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "finished"

    def test_says_where_the_run_is_and_what_it_reached(self, folder, capsys):
        assert main(["train", *TINY, "trainer.epochs=1"]) == 0
        told = capsys.readouterr().out
        identity = re.match(r"run ([0-9a-f]{12}) finished", told).group(1)
        assert (folder / "runs" / identity / "record.json").is_file()
        assert "test/si_sdr_improvement_db" in told

    def test_prints_the_net_and_leaves_no_run(self, folder, capsys):
        assert main(["train", "--print-model", *TINY]) == 0
        assert "parameters" in capsys.readouterr().out
        assert not (folder / "runs").exists()

    def test_goes_to_the_home_that_was_named(self, folder, monkeypatch, capsys):
        monkeypatch.setenv("LIGHTNING_SEP_HOME", str(folder / "elsewhere"))
        assert main(["train", *TINY, "trainer.epochs=1"]) == 0
        assert list((folder / "elsewhere").glob("*/record.json"))

    def status(self, capsys):
        """The single runs that are not done."""
        assert main(["status", "--json"]) == 0
        [alone] = json.loads(capsys.readouterr().out)
        assert alone["sweep"] is None
        return alone["runs"]

    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGINT, 130), (signal.SIGUSR1, 1)],
        ids=["Ctrl-C", "SIGUSR1"],
    )
    def test_saves_and_stops_when_a_signal_asks(self, folder, capsys, number, code):
        process = subprocess.Popen(
            command("train", *TINY, "trainer.epochs=100000"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 60
        while (
            not any(  # an attempt's history begins empty: at step 0 nothing is there to save
                file.stat().st_size for file in folder.glob("runs/*/metrics.jsonl")
            )
            and time.monotonic() < until
        ):
            time.sleep(0.05)
        [running] = self.status(capsys)
        assert running["state"] == "running"
        assert running["epochs"] == 100000
        assert running["epoch"] >= 1
        assert running["metric"] == "val/si_sdr_improvement_db"
        assert isinstance(running["value"], float)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == code, told
        [stopped] = self.status(capsys)
        about = {"run": running["run"], "state": "stopped", "reason": "the same command goes on"}
        assert about.items() <= stopped.items()
        assert "Traceback" not in told
        assert list(folder.glob("runs/*/checkpoints/*"))
