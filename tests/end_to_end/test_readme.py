"""The README: each of its commands runs, each of its links and figures of speech holds."""

import re
import shlex
from pathlib import Path

import pytest
import soundfile

from lightning_sep.cli import main
from lightning_sep.record import read_records

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
RECORDED = ROOT.parent / "shared" / "data" / "env_esc10_8k"


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ lightning-sep ") for line in lines)
    return [line.removeprefix("$ lightning-sep ") for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_home: Path) -> Path:
    """Where a reader would stand: a checkout, with recordings of his own."""
    made = tmp_path_factory.mktemp("reader")
    (made / "sweeps").symlink_to(ROOT / "sweeps")
    return made


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_runs(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(folder / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    arguments = shlex.split(line)
    if arguments[0] == "train":  # as it stands below
        arguments.append("trainer.limit_batches=2")
    if "/path/to/env_esc10_8k" in line or "esc10" in arguments:
        if not RECORDED.is_dir():
            pytest.skip("the recorded set is not on this machine")
        arguments = [str(RECORDED) if one.startswith("/path/to") else one for one in arguments]
    for record in read_records(folder / "runs"):
        if record["state"] == "finished":
            placeholder = f"{record['task'].upper()}_RUN"
            arguments = [record["run_id"] if one == placeholder else one for one in arguments]
    assert not any(one.endswith("_RUN") for one in arguments), "no run of that task"
    for one in arguments:
        if one.endswith(".wav") and one != "generated.wav":
            source = sorted((folder / "runs").glob("*/audio/0-mixture.flac"))[0]
            samples, rate = soundfile.read(source)
            soundfile.write(folder / one, samples, rate)
    code = main(arguments)
    output = capsys.readouterr()
    assert code == 0, output.err
    assert output.out.strip()


TRIVIAL = {  # what whoever knows nothing comes to, and which way is better
    "test/si_sdr_improvement_db": (0.0, 1),
    "test/r2": (0.0, 1),
    "test/equal_error_rate": (0.5, -1),
}


@pytest.mark.slow
def test_the_first_commands_beat_whoever_knows_nothing(
    tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path))
    trained = [one for one in commands() if one.startswith("train ") and "--print" not in one]
    assert [main(shlex.split(line)) for line in trained] == [0, 0, 0]
    metrics = {}
    for record in read_records(tmp_path):
        metrics |= record["metrics"]
    for name, (trivial, sign) in TRIVIAL.items():
        assert sign * metrics[name] > sign * trivial, f"{name} = {metrics[name]}"


def test_the_make_targets_of_the_readme_exist() -> None:
    named = set(re.findall(r"(?:`|^    )make (\w[\w-]*)", TEXT, re.MULTILINE))
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"sweep", "test"} <= named
    assert named <= rules


def test_the_readme_links_and_names_only_what_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:lightning_sep|sweeps|conf|tests|slurm)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= 200


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
