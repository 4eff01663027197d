"""Break lines one at a time and see which breakages no test notices.

``python tests/mutants.py heads,optimizers.py --count 40`` takes the files of these rooms (folders
or files under ``lightning_sep/``), makes every mutant of one spot that ``mutants`` knows, draws 40
of each room and runs tests on each mutant, in a copy of the tree. The tests of the rooms are run
once without a mutant, to see which lines each test executes (``traced.py``); a mutant meets only
those that execute its line, the fastest first, and no more of them than ``--budget`` seconds
allow. A mutant that fails a test is killed; one that
passes has survived: a test is missing, or the spot makes no difference. One that takes far longer
than its tests do is counted apart: an endless loop, or a busy machine. The real tree is never
touched.
"""

import argparse
import ast
import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "lightning_sep"

# What trains and what works on trials, from end to end and through kills.
RUNS = ["callbacks", "end_to_end/test_train.py", "end_to_end/test_resume.py"]
WORKERS = ["sweep", "leases", "launchers", "fsio", "faults"]
# Room → the tests that may concern it. A room without a line has tests/<room>.
TESTS = {
    "callbacks": [*RUNS, "reweighting", "cli/test_watching.py"],
    "checkpoint_files.py": [*RUNS, "run_folder", "use"],
    "checks.py": ["settings/test_checks.py", "nets"],
    "cli": ["cli"],
    "experiment.py": [*RUNS, "end_to_end/test_bad_input.py", "record", "sweep"],
    "devices.py": ["settings/test_optimizer_and_trainer.py", "launchers", "callbacks"],
    "evaluate.py": ["use/test_evaluate.py"],
    "faults.py": ["sweep/test_whose_fault.py", "sweep/test_one_worker.py"],
    "fingerprint.py": ["record", "settings/test_run_identity.py", "end_to_end/test_train.py"],
    "fsio.py": ["fsio", "run_folder", "record", "leases", "sweep"],
    "functional": ["functional", "functional_log_mel", "reweighting", "losses", "heads", "metrics"],
    "heads": ["heads", "tasks/test_cross_product.py"],
    "homes.py": ["cli", "data/test_data_commands.py"],
    "launchers": WORKERS,
    "leaderboard": ["leaderboard", "reproduce/test_archive.py"],
    "leases": WORKERS,
    "listen.py": ["leaderboard/test_listen.py"],
    "losses": ["losses", "tasks/test_cross_product.py"],
    "memory.py": ["cli/test_memory.py"],
    "optimizers.py": ["settings/test_optimizer_and_trainer.py"],
    "parts.py": [*RUNS, "tasks", "settings/test_run_identity.py"],
    "ranks.py": ["ddp"],
    "record.py": [*RUNS, "record", "settings/test_run_identity.py"],
    "run_folder.py": [*RUNS, "run_folder"],
    "run_id.py": ["settings/test_run_identity.py", "sweep"],
    "sources.py": ["settings/test_run_identity.py"],
    "sweep": WORKERS,
    "tasks": ["tasks", "end_to_end/test_resume.py"],
    "terminal.py": ["cli/test_plain_terminal.py"],
    "tracking": ["tracking"],
    "trainer_settings.py": ["settings/test_optimizer_and_trainer.py", "end_to_end/test_train.py"],
    "train_on.py": ["callbacks/test_train_on.py"],
    "training.py": [*RUNS, "tracking"],
    "use.py": ["use"],
    "warm_start.py": ["callbacks/test_warm_start.py"],
    "watching.py": ["callbacks/test_what_a_run_is.py", "cli/test_watching.py"],
}
# What says something to people: neither taken out nor changed within.
SAYING, LOGS = {"print", "say"}, {"log", "logger", "logging"}
NOT_FOUND = 4  # pytest's exit code for a test that is not there
# Of the top folder; not copied.
LEFT_OUT = {".git", ".venv", "runs", "data", "wandb", "build", "dist", "htmlcov"}

NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In},
}
SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
}
SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
}


@dataclass(frozen=True)
class Mutant:
    """One changed spot.

    Args:
        path: the file, relative to the tree.
        line: its line.
        old: what stands there, on one line.
        new: what is put there.
        source: the whole file with the change.
        lines: its statement's lines, without those within it; ``None`` when it runs at import.
    """

    path: Path
    line: int
    old: str
    new: str
    source: str
    lines: frozenset[int] | None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.old}  →  {self.new}"


def mutants(path: Path, source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines.

    Docstrings and other texts, annotations, decorators, ``__all__``, what is only for type
    checkers or said to people, and the arguments of exceptions stay as they are.
    """
    tree = ast.parse(source)
    starts = [0]
    for text in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    raw = source.encode()
    found = []
    for node, changed, lines in _changes(tree, None):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        new = ast.unparse(changed)
        put = new if isinstance(node, ast.stmt) else f"({new})"
        if isinstance(node, ast.stmt):  # its further lines stand further to the right
            put = put.replace("\n", "\n" + " " * node.col_offset)
        made = (raw[:start] + put.encode() + raw[end:]).decode()
        old = _short(ast.unparse(node))
        found.append(Mutant(path, node.lineno, old, _short(new), made, lines))
    return sorted(found, key=lambda one: (one.line, one.old, one.new))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."


Change = tuple[ast.stmt | ast.expr, ast.AST]
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def _changes(
    node: ast.AST, lines: frozenset[int] | None
) -> Iterator[tuple[ast.stmt | ast.expr, ast.AST, frozenset[int] | None]]:
    """Each node that can be changed below ``node``, what it becomes, and where it is executed.

    ``lines`` are those of the statement around ``node``; ``None`` where no function is around it:
    only within functions are statements taken out.
    """
    if isinstance(node, ast.expr):
        yield from ((*change, lines) for change in _of_expression(node))
    elif isinstance(node, ast.stmt):
        lines = None if lines is None else _lines(node)
        yield from ((*change, lines) for change in _of_statement(node, lines is not None))
    body = node.body if isinstance(node, FUNCTION) else []
    for child in _kept(node):
        yield from _changes(child, _lines(child) if child in body else lines)


def _lines(node: ast.AST) -> frozenset[int]:
    """The lines of a statement, without those of the statements within it."""
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    within = [one.lineno for one in ast.walk(node) if isinstance(one, ast.stmt) and one is not node]
    return frozenset(range(first, max(first + 1, min([last + 1, *within]))))


def _kept(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node that may be changed."""
    if isinstance(node, ast.JoinedStr | ast.Raise) or _says(node):
        return
    if isinstance(node, ast.If) and _name(node.test) in ("TYPE_CHECKING", "__name__"):
        return
    if isinstance(node, ast.Assign) and any(_name(one) == "__all__" for one in node.targets):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "targets", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _name(node: ast.AST) -> str:
    """``x`` of ``x``, ``a.x``, ``x(...)`` and ``x == ...``."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    if isinstance(node, ast.Compare):
        return _name(node.left)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _says(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    said_by = node.value.func
    if isinstance(said_by, ast.Attribute):
        return _name(said_by.value) in LOGS
    return _name(said_by) in SAYING


def _of_expression(node: ast.expr) -> Iterator[Change]:
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                for kind in (NEGATED, SHIFTED):
                    if type(operator) in kind:
                        changed = copy.deepcopy(node)
                        changed.ops[number] = kind[type(operator)]()
                        yield node, changed
        case ast.BinOp() if type(node.op) in SWAPPED:
            yield node, ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right)
        case ast.BoolOp():
            swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, ast.BoolOp(swapped, node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, node.operand
        case ast.IfExp():
            for value in (True, False):
                yield node.test, ast.Constant(value)
        case ast.Constant(value=bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, ast.Constant(value + 1)


def _of_statement(node: ast.stmt, inside: bool) -> Iterator[Change]:
    match node:
        case ast.If() | ast.While() if _name(node.test) not in ("TYPE_CHECKING", "__name__"):
            for value in (True, False):
                yield node.test, ast.Constant(value)
        case ast.AugAssign() if type(node.op) in SWAPPED:
            yield node, ast.AugAssign(node.target, SWAPPED[type(node.op)](), node.value)
    if not inside:
        return
    match node:
        case ast.Expr(value=ast.Call()) if not _says(node):
            yield node, ast.Pass()
        case ast.Assign() | ast.AugAssign() | ast.Raise():
            yield node, ast.Pass()
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield node, ast.Return(ast.Constant(None))


def files(root: Path, package: str, room: str) -> list[Path]:
    """The files of a room, relative to the tree.

    Raises:
        SystemExit: there is no such folder or file.
    """
    place = root / package / room
    found = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    if not found or not all(one.is_file() for one in found):
        raise SystemExit(f"no folder or file {place.relative_to(root)}")
    return [one.relative_to(root) for one in found]


def tests_of(room: str) -> list[Path]:
    """The tests that concern a room."""
    names = next(
        (TESTS[one] for one in (room, room.split("/")[0]) if one in TESTS),
        [room.split("/")[0].removesuffix(".py")],
    )
    return [Path("tests") / name for name in names]


@dataclass(frozen=True)
class Test:
    """A test, or a doctest, and what it does without a mutant.

    Args:
        id: its name, as pytest takes it.
        seconds: how long it takes.
        lines: file, relative to the tree → the lines that it executes.
    """

    id: str
    seconds: float
    lines: dict[str, frozenset[int]]


def _test(one: dict[str, Any]) -> Test:
    lines = {path: frozenset(executed) for path, executed in one["lines"].items()}
    return Test(one["id"], one["seconds"], lines)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Args:
        word: ``"killed"``, ``"SURVIVED"``, ``"timed out"`` or, without any test, ``"not run"``.
        seconds: how long its tests took.
        by: the test that noticed it.
    """

    word: str
    seconds: float
    by: str = ""


class Bench:
    """Runs tests on copies of a tree.

    Args:
        root: the tree.
        package: its package.
        tests: what is run, relative to the tree.
        budget_s: seconds of tests that a mutant meets at most, but for the fastest one.
        kept: a file that keeps what the tests execute, until code or tests change.

    Raises:
        SystemExit: a test is missing, or fails as it is.
    """

    def __init__(
        self,
        root: Path,
        package: str,
        tests: Sequence[Path],
        budget_s: float,
        kept: Path | None = None,
    ) -> None:
        missing = [str(one) for one in tests if not (root / one).exists()]
        if missing:
            raise SystemExit(f"no {', '.join(missing)}: mend TESTS in tests/mutants.py or --tests")
        self.root = root
        self.budget_s = budget_s
        state = hashlib.sha256(repr([str(one) for one in tests]).encode())
        for path in sorted(one for top in (package, "tests") for one in (root / top).rglob("*.py")):
            state.update(path.read_bytes())
        if kept is not None and kept.exists():
            content = json.loads(kept.read_text())
            if content["state"] == state.hexdigest():
                self.tests = [_test(one) for one in content["tests"]]
                return
        with tempfile.TemporaryDirectory(prefix="traced-") as folder:
            out = Path(folder) / "lines.json"
            tracer = [str(Path(__file__).with_name("traced.py")), str(out), package]
            code, said = self._run(None, tracer, list(map(str, tests)), None)
            if code:
                raise SystemExit(f"the tests fail without a mutant:\n{said}")
            found = json.loads(out.read_text())
        self.tests = [_test(one) for one in found]
        if kept is not None:
            kept.write_text(json.dumps({"state": state.hexdigest(), "tests": found}))

    def concerned(self, mutant: Mutant) -> list[Test]:
        """The tests that execute a mutant's line, the fastest first, within the budget.

        What runs at import concerns every test that executes any line of the file.
        """
        path = str(mutant.path)
        found = [
            test
            for test in self.tests
            if test.lines.get(path, frozenset()) & (mutant.lines or test.lines.get(path, set()))
        ]
        found.sort(key=lambda test: test.seconds)
        ends_s = accumulate(test.seconds for test in found)
        count = sum(end_s <= self.budget_s for end_s in ends_s)
        return found[: max(1, count)]

    def judge(self, mutant: Mutant, limit_s: float | None) -> Verdict:
        """Run the tests that a mutant concerns.

        ``limit_s``: seconds that they may take; without one, four times as long as without the
        mutant and two minutes more.
        """
        tests = self.concerned(mutant)
        if not tests:
            return Verdict("not run", 0.0)
        limit_s = limit_s or 120 + 4 * sum(test.seconds for test in tests)
        started_s = time.monotonic()
        names = [test.id for test in tests]
        code, said = self._run(mutant, ["-m", "pytest"], names, limit_s)
        if code == NOT_FOUND:  # the mutant changes what a test is called with
            names = list(dict.fromkeys(name.partition("[")[0] for name in names))
            code, said = self._run(mutant, ["-m", "pytest"], names, limit_s)
        took_s = time.monotonic() - started_s
        if code is None or re.search(r"^E +Failed: Timeout", said, re.MULTILINE):
            return Verdict("timed out", took_s)
        if not code:
            return Verdict("SURVIVED", took_s)
        told = re.search(r"^(?:FAILED|ERROR) (.*)$", said, re.MULTILINE)
        return Verdict("killed", took_s, told[1] if told else "an error of pytest")

    def _run(
        self, mutant: Mutant | None, program: list[str], tests: list[str], limit_s: float | None
    ) -> tuple[int | None, str]:
        """The exit code, ``None`` when it takes too long, and what pytest said."""
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            tree, rest = Path(folder) / "tree", Path(folder) / "tmp"
            rest.mkdir()
            _copy(self.root, tree)
            if mutant is not None:
                (tree / mutant.path).write_text(mutant.source)
            environment = os.environ | {
                "PYTHONPATH": str(tree),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "passive",
                "TMPDIR": str(rest),
            }
            options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
            process = subprocess.Popen(
                [sys.executable, *program, *options, "-m", "not slow and not gpu", *tests],
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                said, _ = process.communicate(timeout=limit_s)
                return process.returncode, said
            except subprocess.TimeoutExpired:
                return None, ""
            finally:
                _end(process, rest)


def _copy(root: Path, tree: Path) -> None:
    tree.mkdir()
    for one in root.iterdir():
        if one.name in LEFT_OUT or one.name.endswith("_cache"):
            continue
        if one.is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(one, tree / one.name, ignore=skipped)
        else:
            shutil.copy2(one, tree / one.name)


def _end(process: subprocess.Popen[str], marker: Path) -> None:
    """End a run of tests and all that it started: known by their TMPDIR, which is theirs alone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"TMPDIR={marker}".encode() in place.read_bytes().split(b"\0"):
                os.kill(int(place.parent.name), signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutants and say which survive; the exit code is 0 whatever does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", help="folders or files of the package, with commas")
    parser.add_argument("--count", type=int, default=40, help="mutants a room (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: 2)")
    parser.add_argument(
        "--limit", type=float, metavar="S", help="seconds a mutant (default: as its tests need)"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: this one)")
    parser.add_argument("--package", default=PACKAGE, help=f"default: {PACKAGE}")
    parser.add_argument(
        "--budget", type=float, default=120, metavar="S", help="of tests a mutant (default: 120)"
    )
    parser.add_argument(
        "--kept", type=Path, metavar="FILE", help="keeps what the tests execute, for the next draw"
    )
    parser.add_argument("--tests", help="other tests than those of the room, with commas")
    given = parser.parse_args(arguments)
    rooms = [room.strip("/ ") for room in given.rooms.split(",")]
    drawn: dict[str, list[Mutant]] = {}
    tests: dict[Path, None] = {}  # in their order, each once
    for room in rooms:
        paths = files(given.root, given.package, room)
        known = [one for path in paths for one in mutants(path, (given.root / path).read_text())]
        drawn[room] = random.Random(given.seed).sample(known, min(given.count, len(known)))
        drawn[room].sort(key=lambda one: (one.path, one.line))
        print(f"{room}: {len(drawn[room])} of {len(known)} mutants", flush=True)
        named = list(map(Path, given.tests.split(","))) if given.tests else tests_of(room)
        tests |= dict.fromkeys([*named, *paths])  # the files for their doctests
    bench = Bench(given.root, given.package, list(tests), given.budget, given.kept)
    took_s = sum(test.seconds for test in bench.tests)
    print(f"{len(bench.tests)} tests take {took_s:.0f} s", flush=True)
    told = []
    for room in rooms:
        judged: list[tuple[Mutant, Verdict]] = []
        with ThreadPoolExecutor(given.jobs) as pool:
            for mutant, verdict in zip(
                drawn[room],
                pool.map(lambda one: bench.judge(one, given.limit), drawn[room]),
                strict=True,
            ):
                print(f"{verdict.word:<9} {verdict.seconds:4.0f} s  {mutant}", flush=True)
                if verdict.by:
                    print(f"{'':18}by {_short(verdict.by)}", flush=True)
                judged.append((mutant, verdict))
        told += _summary(room, judged)
    print("\n".join(told))
    return 0


def _summary(room: str, judged: Sequence[tuple[Mutant, Verdict]]) -> list[str]:
    late = [mutant for mutant, verdict in judged if verdict.word == "timed out"]
    alive = [mutant for mutant, verdict in judged if verdict.word in ("SURVIVED", "not run")]
    share = f" ({len(alive) / len(judged):.0%})" if judged else ""
    lines = [f"{room}: {len(alive)} of {len(judged)} survived{share}, {len(late)} timed out"]
    lines += [f"    {mutant}" for mutant in alive]
    return lines + [f"    timed out: {mutant}" for mutant in late]


if __name__ == "__main__":
    sys.exit(main())
