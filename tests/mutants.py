"""Break lines one at a time and see which breakages no test notices.

``python tests/mutants.py heads,optimizers.py --count 40`` takes the files of these rooms (folders
or files under ``lightning_sep/``), makes every mutant of one spot that ``mutants`` knows, draws 40
of them and runs the room's tests on each, in a copy of the tree. A mutant that fails a test, or
takes far longer than its tests do, is killed; one that passes has survived: a test is missing, or
the spot makes no difference. The real tree is never touched.
"""

import argparse
import ast
import copy
import os
import random
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
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "lightning_sep"

# Room → the tests that concern it, the fastest first. A room without a line has tests/<room>.
TESTS = {
    "callbacks": ["callbacks", "reweighting", "end_to_end/test_resume.py"],
    "checkpoint_files.py": ["callbacks", "end_to_end/test_resume.py"],
    "checks.py": ["settings/test_checks.py", "nets"],
    "cli": ["cli"],
    "experiment.py": [
        *("callbacks", "end_to_end/test_train.py", "end_to_end/test_resume.py"),
        "end_to_end/test_bad_input.py",
    ],
    "evaluate.py": ["use/test_evaluate.py"],
    "faults.py": ["sweep/test_whose_fault.py", "sweep/test_one_worker.py"],
    "functional": ["functional", "functional_log_mel", "reweighting", "losses", "heads", "metrics"],
    "heads": ["heads", "tasks/test_cross_product.py"],
    "homes.py": ["cli", "data/test_data_commands.py"],
    "launchers": ["launchers", "sweep"],
    "losses": ["losses", "tasks/test_cross_product.py"],
    "memory.py": ["cli/test_memory.py"],
    "optimizers.py": ["settings/test_optimizer_and_trainer.py"],
    "record.py": ["settings/test_run_identity.py", "end_to_end/test_train.py"],
    "run_folder.py": ["run_folder", "callbacks"],
    "run_id.py": ["settings/test_run_identity.py"],
    "sweep": ["sweep"],
    "tasks": ["tasks", "end_to_end/test_resume.py"],
    "terminal.py": ["cli/test_plain_terminal.py"],
    "tracking.py": ["tracking"],
    "trainer_settings.py": ["settings/test_optimizer_and_trainer.py", "end_to_end/test_train.py"],
    "training.py": ["callbacks", "end_to_end/test_resume.py", "end_to_end/test_train.py"],
    "use.py": ["use"],
}
# What says something to people: neither taken out nor changed within.
SAYING, LOGS = {"print", "say"}, {"log", "logger", "logging"}
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
    """

    path: Path
    line: int
    old: str
    new: str
    source: str

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
    for node, changed in _changes(tree, inside=False):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        new = ast.unparse(changed)
        put = new if isinstance(node, ast.stmt) else f"({new})"
        if isinstance(node, ast.stmt):  # its further lines stand further to the right
            put = put.replace("\n", "\n" + " " * node.col_offset)
        made = (raw[:start] + put.encode() + raw[end:]).decode()
        found.append(Mutant(path, node.lineno, _short(ast.unparse(node)), _short(new), made))
    return sorted(found, key=lambda one: (one.line, one.old, one.new))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."


Change = tuple[ast.stmt | ast.expr, ast.AST]


def _changes(node: ast.AST, inside: bool) -> Iterator[Change]:
    """Each node that can be changed below ``node``, and what it becomes.

    ``inside`` is whether ``node`` lies in a function: only there are statements taken out.
    """
    if isinstance(node, ast.expr):
        yield from _of_expression(node)
    elif isinstance(node, ast.stmt):
        yield from _of_statement(node, inside)
    inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in _kept(node):
        yield from _changes(child, inside)


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
    """The tests that concern a room, the fastest first."""
    names = next(
        (TESTS[one] for one in (room, room.split("/")[0]) if one in TESTS),
        [room.split("/")[0].removesuffix(".py")],
    )
    return [Path("tests") / name for name in names]


class Bench:
    """Runs tests on copies of a tree.

    Args:
        root: the tree.
        tests: what is run, relative to the tree.
    """

    def __init__(self, root: Path, tests: Sequence[Path]) -> None:
        missing = [str(one) for one in tests if not (root / one).exists()]
        if missing:
            raise SystemExit(f"no {', '.join(missing)}: mend TESTS in tests/mutants.py or --tests")
        self.root = root
        self.tests = tests

    def passes(
        self, mutant: Mutant | None, limit_s: float | None
    ) -> tuple[bool | None, float, str]:
        """Whether all tests pass, ``None`` when they take too long; seconds; what pytest said."""
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            tree, rest = Path(folder) / "tree", Path(folder) / "tmp"
            rest.mkdir()
            _copy(self.root, tree)
            extra = []
            if mutant is not None:
                (tree / mutant.path).write_text(mutant.source)
                extra = [str(mutant.path)]  # its doctests
            environment = os.environ | {
                "PYTHONPATH": str(tree),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "passive",
                "TMPDIR": str(rest),
            }
            options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
            command = [sys.executable, "-m", "pytest", *options, "-m", "not slow and not gpu"]
            started_s = time.monotonic()
            process = subprocess.Popen(
                [*command, *map(str, self.tests), *extra],
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
                passed: bool | None = process.returncode == 0
            except subprocess.TimeoutExpired:
                passed, said = None, ""
            finally:
                _end(process, rest)
            return passed, time.monotonic() - started_s, said


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
        "--limit", type=float, metavar="S", help="seconds (default: 30 and four times the tests')"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: this one)")
    parser.add_argument("--package", default=PACKAGE, help=f"default: {PACKAGE}")
    parser.add_argument("--tests", help="other tests than those of the room, with commas")
    given = parser.parse_args(arguments)
    survivors: list[Mutant] = []
    tried = 0
    for room in given.rooms.split(","):
        room = room.strip("/ ")
        tests = list(map(Path, given.tests.split(","))) if given.tests else tests_of(room)
        bench = Bench(given.root, tests)
        paths = files(given.root, given.package, room)
        known = [one for path in paths for one in mutants(path, (given.root / path).read_text())]
        drawn = random.Random(given.seed).sample(known, min(given.count, len(known)))
        drawn.sort(key=lambda one: (one.path, one.line))
        passed, took_s, said = bench.passes(None, None)
        if not passed:
            raise SystemExit(f"{room}: the tests fail without a mutant:\n{said}")
        limit_s = given.limit or 30 + 4 * took_s
        print(f"{room}: {len(drawn)} of {len(known)} mutants; tests {took_s:.0f} s", flush=True)
        with ThreadPoolExecutor(given.jobs) as pool:
            for mutant, (passed, took_s, _) in zip(
                drawn,
                pool.map(lambda one, b=bench, s=limit_s: b.passes(one, s), drawn),
                strict=True,
            ):
                verdict = {True: "SURVIVED", False: "killed", None: "timed out"}[passed]
                print(f"{verdict:<9} {took_s:4.0f} s  {mutant}", flush=True)
                survivors += [mutant] if passed else []
        tried += len(drawn)
    print(f"{len(survivors)} of {tried} survived ({len(survivors) / max(1, tried):.0%})")
    for mutant in survivors:
        print(f"    {mutant}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
