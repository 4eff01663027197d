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


def test_a_watched_line_kills_its_mutant_and_an_unwatched_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tests" / "sums").mkdir(parents=True)
    code = "def watched(a, b):\n    return a + b\n\n\ndef unwatched(a, b):\n    return a - b\n"
    code += "\n\ndef endless(n):\n    while n:\n        n = n - 1\n"
    (tmp_path / "tiny" / "sums.py").write_text(code)
    (tmp_path / "tests" / "sums" / "test_sums.py").write_text(
        "from tiny.sums import endless, unwatched, watched\n\n\n"
        "def test_sums():\n    assert watched(2, 3) == 5\n    unwatched(1, 1)\n    endless(2)\n"
    )
    before = {path: path.read_text() for path in tmp_path.rglob("*.py")}
    command = [sys.executable, SCRIPT, "sums.py", "--root", tmp_path, "--package", "tiny"]
    told = subprocess.run(
        [*command, "--jobs", "2", "--limit", "5"], capture_output=True, text=True, timeout=200
    )
    assert told.returncode == 0, told.stderr
    found = re.findall(r"^(SURVIVED|killed|timed out) .*sums.py:\d+: (.*)$", told.stdout, re.M)
    verdicts = {mutant: verdict for verdict, mutant in found}
    assert verdicts["a + b  →  a - b"] == "killed"
    assert verdicts["a - b  →  a + b"] == "SURVIVED"
    assert verdicts["n  →  True"] == "timed out"
    assert verdicts["n  →  False"] == "SURVIVED"
    assert "    tiny/sums.py:6: a - b  →  a + b" in told.stdout.splitlines()
    assert {path: path.read_text() for path in tmp_path.rglob("*.py")} == before


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
