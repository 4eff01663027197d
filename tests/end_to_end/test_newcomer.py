"""CONTRIBUTING.md, followed to the letter in a fresh checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ["lightning_sep", "conf", "sweeps", "tests", "CONTRIBUTING.md", "pyproject.toml"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, data_home: Path) -> Path:
    """A copy of the checkout in which the two blocks of CONTRIBUTING.md lie where it says."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        if (ROOT / name).is_dir():
            unneeded = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / name, copy / name, ignore=unneeded)
        else:
            shutil.copy(ROOT / name, copy / name)
    text = (copy / "CONTRIBUTING.md").read_text()
    steps = re.findall(r"`([^`\n]+)`:\n\n<!-- ([\w.]+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert [name for _, name, _ in steps] == ["softsign.py", "softsign.yaml"]
    for place, name, content in steps:
        assert Path(place).name == name
        assert not (copy / place).exists()
        (copy / place).write_text(content)
    return copy


def python(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "LIGHTNING_SEP_HOME": str(checkout / "runs"),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_lists_the_new_head(checkout):
    said = python(checkout, "-m", "lightning_sep", "train", "--help")
    assert "softsign" in said


def test_the_new_head_trains(checkout):
    said = python(
        *(checkout, "-m", "lightning_sep", "train", "head=softsign", "tracking=none"),
        *("examples.train=8", "examples.val=4", "examples.test=4", "examples.batch_size=4"),
        *("examples.segment_s=0.25", "trainer.epochs=1"),
    )
    assert "finished" in said
    assert "test/si_sdr_improvement_db" in said


def test_contract_and_cross_product_test_the_new_head(checkout):
    said = python(
        *(checkout, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-k", "softsign"),
        *("tests/heads", "tests/tasks/test_cross_product.py"),
    )
    found = re.search(r"(\d+) passed", said)
    assert found is not None
    rules = len(list((checkout / "conf" / "reweighting").glob("*.yaml")))
    assert int(found[1]) >= 2 + 2 * rules + 5  # tasks, tasks with reweightings, the contract
    assert "failed" not in said


def test_the_sweep_of_heads_tries_the_new_head(checkout):
    said = python(
        checkout,
        "-c",
        "import optuna, runpy, lightning_sep\n"
        "sweep = runpy.run_path('sweeps/bounded_heads.py')\n"
        "trial = optuna.trial.FixedTrial({'head': 'softsign'})\n"
        "print(lightning_sep.__file__, *sweep['overrides'](trial))",
    )
    assert said.split()[0].startswith(str(checkout))
    assert "head=softsign" in said.split()
