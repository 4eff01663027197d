"""Parts of one's own, from an empty folder, without a checkout or PYTHONPATH."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import lightning_sep
from lightning_sep.cli import main
from lightning_sep.sweep.definition import load_sweep

ROOT = Path(lightning_sep.__file__).parent.parent


def test_what_init_writes_is_composed_and_swept(tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mylab"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written[:-1] == [
        "conf/head/softsign.yaml", "mylab/__init__.py", "mylab/softsign.py", "sweeps/my_heads.py",
    ]  # fmt: skip
    # As an installed command does: the working folder is not where Python looks.
    code = """
import sys
from lightning_sep.cli import main
sys.path[:] = [one for one in sys.path if one not in ("", sys.argv[1])]
sys.exit(main(sys.argv[2:]))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LIGHTNING_SEP_PLUGINS": "mylab"}
    for words in (
        ["train", "task=autoregression", "head=softsign", "--print-config"],
        ["sweep", "sweeps/my_heads.py", "--dry-run"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), *words],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert words[0] == "sweep" or "_target_: mylab.softsign.Softsign" in done.stdout


def test_the_parts_of_the_guide_train(tmp_path, home, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("### A net, a loss")[2]
    parts = re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(parts) == 8
    for place, content in parts:
        file = Path(place.replace("mylab", "guide_parts"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace("mylab", "guide_parts"))
    generator = np.random.default_rng(0)
    for name in ("rex", "ina"):
        Path("dogs", name).mkdir(parents=True)
        for number in range(8):
            samples = 0.1 * generator.standard_normal(8000)
            soundfile.write(Path("dogs", name, f"{number}.wav"), samples, 8000)
    [command] = re.findall(r"^    LIGHTNING_SEP_PLUGINS=mylab lightning-sep (.*)$", text, re.M)
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "guide_parts")
    few = ["examples.train=4", "examples.val=4", "examples.test=4", "trainer.epochs=1"]
    words = shlex.split(command.replace("mylab", "guide_parts"))
    assert main([*words, *few, "examples.segment_s=0.25"]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    [history] = home.glob("*/metrics.jsonl")
    assert '"train/largest_weight": ' in history.read_text()
    assert "epoch 0 0." in told
    assert "finished finished" in told
    assert main([*words, *few, "examples.segment_s=0.25", "net.kernel=30"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "error: net=Conv gives [4, 2, 2001], separation needs [batch 4, outputs 2, time" in told
    assert main(["status"]) == 0
    assert "failed: " in (told := capsys.readouterr().out)
    assert "): epoch 0/1: net=Conv gives [4, 2, 2001], separation needs " in told
    assert main(["data", "list"]) == 0
    assert re.search(r"^dogs +yes .* our dogs, a folder for each$", capsys.readouterr().out, re.M)


def test_init_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "my_heads.py").write_text("mine")
    assert main(["init"]) == 2
    assert "sweeps/my_heads.py is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweeps"]


@pytest.mark.parametrize("name", ["lightning_sep", "no-name", "../x"])
def test_init_refuses_a_name_that_no_package_can_have(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["init", name]) == 2
    assert not list(tmp_path.iterdir())


def test_our_sweeps_are_found_where_no_checkout_is(tmp_path, monkeypatch):
    """A wheel holds them inside the package; a file of one's own goes before them."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "lightning_sep"
    (package / "sweep").mkdir(parents=True)
    (package / "sweeps").symlink_to(ROOT / "sweeps")
    monkeypatch.setattr(
        "lightning_sep.sweep.definition.__file__", str(package / "sweep" / "definition.py")
    )
    assert load_sweep("sweeps/margin.py").name == "margin"
    (tmp_path / "sweeps").mkdir()
    own = (ROOT / "sweeps" / "margin.py").read_text().replace("trials=6", "trials=3")
    (tmp_path / "sweeps" / "margin.py").write_text(own)
    assert load_sweep("sweeps/margin.py").sweep.trials == 3
