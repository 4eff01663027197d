"""The search for lines that no test watches."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "mutants.py"


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tests_mutants", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def changes(mutants: ModuleType, source: str) -> set[tuple[str, str]]:
    found = mutants.mutants(Path("x.py"), source)
    for one in found:
        ast.parse(one.source)
        assert one.source != source
    return {(one.old, one.new) for one in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {("a < b", "a >= b"), ("a < b", "a <= b")}),
        ("x = a in b", {("a in b", "a not in b")}),
        ("x = a is None", {("a is None", "a is not None")}),
        ("x = a + b", {("a + b", "a - b")}),
        ("x = a / b", {("a / b", "a * b")}),
        ("x -= y", {("x -= y", "x += y")}),
        ("x = not a", {("not a", "a")}),
        ("x = a and b", {("a and b", "a or b")}),
        ("x = -a", {("-a", "a")}),
        ("x = 3", {("3", "4")}),
        ("x = 0.5", {("0.5", "1.5")}),
        ("x = True", {("True", "False")}),
        ("x = a if b else c", {("b", "True"), ("b", "False")}),
        ("if a:\n    b", {("a", "True"), ("a", "False")}),
        ("while a:\n    b", {("a", "True"), ("a", "False")}),
        ("def f():\n    go()", {("go()", "pass")}),
        ("def f():\n    x = y", {("x = y", "pass")}),
        ("def f():\n    raise E(1 + 1)", {("raise E(1 + 1)", "pass")}),
        ("def f():\n    return x", {("return x", "return None")}),
    ],
)
def test_each_kind_of_line_is_broken(
    mutants: ModuleType, source: str, expected: set[tuple[str, str]]
) -> None:
    assert changes(mutants, source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text 1 < 2."""',
        "x: Literal[1, 2]",
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "__all__ = ['a'] + ['b']",
        "if TYPE_CHECKING:\n    x = 1",
        "if __name__ == '__main__':\n    main(1)",
        "@cache(1)\ndef f(): ...",
        "def f():\n    print(1 + 1)",
        "def f():\n    log.write(1 + 1)",
        "def f():\n    return None",
        "x = f'{a + 1}'",
        "x = 'text'",
    ],
)
def test_what_no_test_can_or_should_notice_stays(mutants: ModuleType, source: str) -> None:
    assert changes(mutants, source) == set()


def test_a_change_leaves_the_rest_of_the_file_alone(mutants: ModuleType) -> None:
    source = "def f(a):\n    é = 1  # ü\n    if (a  <\n            é): return [a,\n  é]\n"
    found = {(one.old, one.new): one.source for one in mutants.mutants(Path("x.py"), source)}
    assert found["a < é", "a >= é"] == source.replace("a  <\n            é", "(a >= é)")
    assert found["1", "2"] == source.replace("= 1", "= (2)")
    assert found["return [a, é]", "return None"] == source.replace("[a,\n  é]", "None")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", {("1", None)}),
        ("def f(a=1):\n    return 2", {("1", None), ("2", (2,)), ("return 2", (2,))}),
        ("def f():\n    if (a <\n      b):\n        c()", {("a < b", (2, 3)), ("c()", (4,))}),
        ("class A:\n    x = 1\n    def f(self):\n        self.g(\n        2)", {("1", None)}),
        ("def f():\n    def g():\n        return a\n    b()", {("return a", (3,)), ("b()", (4,))}),
    ],
)
def test_where_a_mutant_is_executed(
    mutants: ModuleType, source: str, expected: set[tuple[str, tuple[int, ...] | None]]
) -> None:
    found = mutants.mutants(Path("x.py"), source)
    assert expected <= {(one.old, one.lines and tuple(sorted(one.lines))) for one in found}


SUMS = """import os
STEP = 1


def watched(a, b):
    return a + b


def unwatched(a, b):
    return a - b


def endless(n):
    while n:
        n = n - STEP


def never(a):
    return a * a


def elsewhere(a):
    os._exit(a // 2)
"""
TESTS = """import subprocess
import sys
import pytest
from tiny.sums import endless, unwatched, watched


@pytest.fixture(scope="module")
def five():
    return watched(2, 3)


def test_sums(five):
    unwatched(1, 1)


@pytest.mark.timeout(3)
def test_endless():
    endless(2)


def test_five(five):
    assert five == 5


def test_elsewhere():
    code = "from tiny.sums import elsewhere; elsewhere(6)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 3
"""


@pytest.mark.slow
def test_a_watched_line_kills_its_mutant_and_an_unwatched_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tests" / "sums").mkdir(parents=True)
    (tmp_path / "tiny" / "sums.py").write_text(SUMS)
    (tmp_path / "tests" / "sums" / "test_sums.py").write_text(TESTS)
    before = {path: path.read_text() for path in tmp_path.rglob("*.py")}
    command = [sys.executable, SCRIPT, "sums.py", "--root", tmp_path, "--package", "tiny"]
    told = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True, timeout=390)
    assert told.returncode == 0, told.stderr
    found = re.findall(r"^(\w+(?: \w+)?) +\d+ s .*sums.py:\d+: (.*)$", told.stdout, re.M)
    verdicts = {mutant: verdict for verdict, mutant in found}
    assert verdicts["a + b  →  a - b"] == "killed", "the fixture's lines are the second test's too"
    assert verdicts["a - b  →  a + b"] == "SURVIVED"
    assert verdicts["n  →  True"] == "timed out"
    assert verdicts["n  →  False"] == "SURVIVED"
    assert verdicts["1  →  2"] == "SURVIVED", "what runs at import meets all tests of the file"
    assert verdicts["a * a  →  a / a"] == "not run"
    assert verdicts["a // 2  →  a * 2"] == "killed", "a child's lines are its test's"
    said = told.stdout.splitlines()
    assert "    tiny/sums.py:10: a - b  →  a + b" in said
    assert "    timed out: tiny/sums.py:14: n  →  True" in said
    assert any("by tests/sums/test_sums.py::test_five" in line for line in said)
    killed, late = list(verdicts.values()).count("killed"), verdicts["n  →  True"]
    assert late == "timed out"
    late_count = len([word for word, _ in found if word == "timed out"])
    survived = len(found) - killed - late_count
    assert f"sums.py: {survived} of {len(found)} survived" in told.stdout
    assert f", {late_count} timed out" in told.stdout
    assert {path: path.read_text() for path in tmp_path.rglob("*.py")} == before


def test_a_mutant_meets_the_tests_of_its_line_the_fastest_first(
    mutants: ModuleType, tmp_path: Path
) -> None:
    bench = mutants.Bench.__new__(mutants.Bench)
    lines = {"x.py": frozenset({2})}
    found = [("slow", 9.0), ("fast", 1.0), ("late", 30.0)]
    bench.tests = [mutants.Test(name, seconds, lines) for name, seconds in found]
    bench.tests.append(mutants.Test("other", 0.5, {"x.py": frozenset({5})}))
    [one] = mutants.mutants(Path("x.py"), "def f():\n    return a")
    for budget_s, names in [
        (100.0, ["fast", "slow", "late"]),
        (10.0, ["fast", "slow"]),
        (0.0, ["fast"]),
    ]:
        bench.budget_s = budget_s
        assert [test.id for test in bench.concerned(one)] == names
    [imported] = mutants.mutants(Path("x.py"), "A = 1")
    assert bench.concerned(imported)[0].id == "other"


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sums.py").write_text("x = 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text("def test_x(): assert False\n")
    for room, tests, said in [
        ("nothing", "tests", "no folder or file tiny/nothing"),
        ("sums.py", "tests/none", "no tests/none"),
        ("sums.py", "tests", "fail without a mutant"),
    ]:
        command = [sys.executable, SCRIPT, room, "--tests", tests, "--root", tmp_path]
        told = subprocess.run([*command, "--package", "tiny"], capture_output=True, text=True)
        assert told.returncode == 1
        assert said in told.stderr
