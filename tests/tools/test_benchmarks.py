"""The benchmarks run, compare in turn, and write what they show."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_of_benchmarks", FOLDER / "_measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_two_ways_are_measured_in_turn(measure: ModuleType) -> None:
    order: list[str] = []

    def way(name: str, figure: float) -> float:
        order.append(name)
        return figure * len(order)

    ours, peer = measure.in_turn(2, lambda: way("a", 1.0), lambda: way("b", 10.0))
    assert order == ["a", "b", "a", "b"]
    assert (ours, peer) == ([1.0, 3.0], [20.0, 40.0])


def test_a_line_is_the_median_of_the_ratios_of_its_rounds(measure: ModuleType) -> None:
    line = measure.Line("start", "one", "another", [1.0, 6.0, 2.0], [2.0, 3.0, 8.0])
    assert line.ratios == [0.5, 2.0, 0.25]
    assert line.as_json()["ratio"] == 0.5
    header, row = (re.split(" {2,}", one) for one in measure.table([line]).splitlines())
    shown = ["subject", "what", "against", "ratio", "least to greatest", "ours", "peer", "more"]
    assert header == shown
    assert row == ["start", "one", "another", "0.5", "0.25 to 2", "2", "3", "-1", "CPU s"]


def test_cpu_of_a_command_counts_its_children_and_not_its_sleep(measure: ModuleType) -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    command = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {burn!r}])"
    rest = "import time; time.sleep(0.3)"
    env = measure.environment()
    assert measure.cpu_s([sys.executable, "-c", command], env) > 0.3
    assert measure.cpu_s([sys.executable, "-c", rest], env) < 0.3
    with pytest.raises(SystemExit, match="no good"):
        measure.cpu_s([sys.executable, "-c", "import sys; sys.exit('no good')"], env)


def test_the_runner_prints_a_table_and_writes_every_round(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, FOLDER, "settings", "--rounds", "2", "--json", tmp_path / "all.json"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert told.returncode == 0, told.stderr
    document = json.loads((tmp_path / "all.json").read_text())
    assert len(document["about"]["revision"]) in (0, 40)
    for line in document["lines"]:
        assert len(line["ours_rounds"]) == len(line["peer_rounds"]) == document["rounds"] == 2
        assert line["ratio"] == median(
            one / other for one, other in zip(line["ours_rounds"], line["peer_rounds"], strict=True)
        )
    assert [line["what"] for line in document["lines"]] == [
        "composed twice",
        "composed, then with another seed",
        "composed, then with another number",
    ]
    assert len(told.stdout.splitlines()) == 4


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, FOLDER, "nothing"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 2
    known = "crowd, growth, losses, page, pairs, settings, start, stems, steps, workers"
    assert f"no nothing; known: {known}" in told.stderr
    assert not list(tmp_path.iterdir())


def test_sweeps_are_begun_and_worked_on_as_the_benchmarks_do(tmp_path: Path) -> None:
    def do(what: str, count: int) -> dict[str, float]:
        told = subprocess.run(
            [sys.executable, FOLDER / "_sweeps.py", what, tmp_path / "runs", "tiny", str(count)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LIGHTNING_SEP_DATA": str(tmp_path / "data")},
        )
        found: dict[str, float] = json.loads(told.stdout)
        return found

    assert do("begin", 4) == {}
    assert set(do("opening", 0)) == {"cpu_s"}
    worked = do("work", 4)
    assert 0 < worked["between"] <= worked["each"]
    do("begin", 8)
    assert do("optuna_alone", 2)["each"] > 0
    assert do("stepping", 1)["all_work"] > 0
