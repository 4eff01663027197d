"""Which of a run's files count: those of the newest generation, whoever wrote last."""

import json
from pathlib import Path

import pytest

from lightning_sep.run_folder import RunFolder, StepFile


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.checkpoints.mkdir()
    return made


def checkpoints(run: RunFolder, *names: str) -> None:
    for name in names:
        (run.checkpoints / name).touch()


def write(run: RunFolder, generation: int, epochs: int) -> None:
    lines = [json.dumps({"epoch": epoch, "by": generation}) for epoch in range(epochs)]
    run.history(generation).write_text("".join(line + "\n" for line in lines))


def test_fault_26_a_later_generation_is_newer_than_a_later_step(run: RunFolder) -> None:
    names = ["step-000000009.1.ckpt", "step-000000005.2.ckpt", "step-000000010.ckpt"]
    checkpoints(run, *names, "step-000000007.2.ckpt", "step-000000007.2.sha256", "best.2.ckpt")
    assert run.steps() == [
        StepFile(2, 7, run.step(7, 2)),
        StepFile(2, 5, run.step(5, 2)),
        StepFile(1, 9, run.step(9, 1)),
        StepFile(0, 10, run.checkpoints / "step-000000010.ckpt"),
    ]


def test_what_is_half_written_or_set_apart_is_no_checkpoint(run: RunFolder) -> None:
    checkpoints(run, ".step-000000009.1.ckpt.aside-1-a", "step-000000009.1.ckpt.damaged-a")
    checkpoints(run, "best.1.ckpt.damaged-a", "xbest.1.ckpt", "step-9.x.ckpt")
    assert run.steps() == []
    assert run.bests() == []
    assert run.generation() == 0


def test_best_weights_come_newest_generation_first(run: RunFolder) -> None:
    checkpoints(run, "best.9.ckpt", "best.10.ckpt", "best.ckpt")
    names = [path.name for path in run.bests()]
    assert names == ["best.10.ckpt", "best.9.ckpt", "best.ckpt"]


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/step-000000001.7.ckpt",
        "checkpoints/best.7.ckpt",
        "metrics.7.jsonl",
        "test_examples.7.json",
    ],
)
def test_a_generation_that_any_file_carries_is_used(run: RunFolder, name: str) -> None:
    checkpoints(run, "best.2.ckpt", "step-000000001.3.ckpt")
    (run.path / name).touch()
    assert run.generation() == 7


def test_a_run_that_nobody_has_begun_has_no_generation(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "none")
    assert (run.steps(), run.bests(), run.histories(), run.rows()) == ([], [], [], [])
    assert run.generation() == 0
    run.publish()
    assert not run.path.exists()


def test_fault_26_the_published_history_is_the_newest_generations(run: RunFolder) -> None:
    """A frozen copy that wakes publishes again: what it publishes is not its own."""
    published = run.path / "metrics.jsonl"
    write(run, 1, 2)
    run.publish()
    assert len(published.read_text().splitlines()) == 2
    write(run, 10, 3)
    run.publish()
    assert published.samefile(run.history(10))
    published.unlink()
    published.write_text("what a frozen copy wrote\n")
    write(run, 2, 9)
    run.publish()
    assert published.samefile(run.history(10))
    with run.history(10).open("a") as file:
        file.write('{"epoch": 3}\n')
    assert len(published.read_text().splitlines()) == 4, "one file with two names"
    before = published.stat().st_ctime_ns
    run.publish()
    assert published.stat().st_ctime_ns == before, "nothing is done again"


def test_the_rows_are_those_of_the_newest_generation_or_of_the_one_asked_for(
    run: RunFolder,
) -> None:
    run.history(0).write_text('{"epoch": 0}\n')
    assert run.rows() == [{"epoch": 0}], "of a run that was made before generations"
    write(run, 2, 1)
    write(run, 10, 2)
    assert [row["by"] for row in run.rows()] == [10, 10]
    assert [row["by"] for row in run.rows(2)] == [2]
    assert run.histories() == [10, 2]


def test_only_past_generations_are_forgotten(run: RunFolder) -> None:
    for generation in (1, 2, 3):
        write(run, generation, 1)
    run.publish()
    run.forget(below=3)
    assert run.histories() == [3]
    assert run.rows() == [{"epoch": 0, "by": 3}]
    assert (run.path / "metrics.jsonl").exists()
