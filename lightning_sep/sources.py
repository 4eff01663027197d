"""The sources that can change a number, as a hash: an edited head is another run."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
# Rooms and files whose code decides what a run computes. Commands, sweeps, launchers, boards,
# records and mirrors only carry numbers around.
COUNTED = (
    "nets",
    "heads",
    "losses",
    "reweighting",
    "functional",
    "tasks",
    "metrics",
    "data",
    "optimizers",
    "plans",
)
# What every run goes through, whatever its settings name.
ALWAYS = (
    "training",
    "callbacks.average",
    "callbacks.history",  # which epoch is the best one
    "callbacks.plan",
    "callbacks.reweight",
    "callbacks.watch",  # when it ends early
    "parts",  # what is drawn under the run's seed
)


_NOTED: dict[Path, str] = {}  # what files held before this process imported any of them
_PASSED: set[Path] = set()  # those that it has imported as they were noted


def note(files: Iterable[Path]) -> None:
    """Keep what files hold, before the first of them is imported; each is noted once."""
    for path in files:
        if path not in _NOTED:
            _NOTED[path] = _held(path)


def edited(files: Iterable[Path]) -> list[Path]:
    """Those of these files that this process has imported, but perhaps not as they were noted.

    What was imported stays what is computed with. So a file that is still as it was noted when it
    has been imported was imported like that, and needs no other look.
    """
    imported = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    left = [path for path in files if path not in _PASSED and str(path) in imported]
    found = [path for path in left if _NOTED.get(path) != _held(path)]
    _PASSED.update(path for path in left if path not in found)
    return found


def plugin_files(root: str) -> list[tuple[Path, Path]]:
    """The sources of a package of the user's own, each with the folder that its name counts from.

    They are noted on the way.
    """
    if root not in _PLUGINS:
        _PLUGINS[root] = list(_found(root))
        note(path for _, path in _PLUGINS[root])
    return _PLUGINS[root]


_PLUGINS: dict[str, list[tuple[Path, Path]]] = {}


def _found(root: str) -> Iterator[tuple[Path, Path]]:
    spec = importlib.util.find_spec(root)
    if spec is None:
        return
    folders = list(spec.submodule_search_locations or [])
    for folder in map(Path, folders):
        for path in folder.rglob("*.py"):
            yield folder, path
    if not folders and spec.origin is not None:
        yield Path(spec.origin).parent, Path(spec.origin)


def _held(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def code_hash(targets: Iterable[str] = ()) -> str:
    """Hash of our own sources that the classes ``targets`` reach by imports; 12 hexadecimal digits.

    Comments, layout and docstrings do not count, since they cannot change a number. Parts that a
    run does not use do not count either: another head in the package leaves its id alone.

    Args:
        targets: class paths, as ``_target_`` has them; those of other packages are passed over.
    """
    digest = hashlib.sha256()
    for module in reached(targets):
        digest.update(module.encode() + b"\0" + _meaning(file_of(module)).encode() + b"\0")
    return digest.hexdigest()[:12]


def reached(targets: Iterable[str]) -> list[str]:
    """The modules of ours that ``targets`` and every run reach, by dotted name below the package.

    Example:
        >>> "functional.si_sdr" in reached(["lightning_sep.losses.si_sdr.SiSdr"])
        True
        >>> "heads.sine" in reached(["lightning_sep.heads.tanh.Tanh"])
        False
    """
    found = set(ALWAYS)
    waiting = []
    for target in targets:
        root, _, rest = target.partition(".")
        module = rest.rpartition(".")[0]
        if root == PACKAGE.name and _counts(module) and _exists(module):
            waiting.append(module)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [one for one in _imports(module) if _counts(one)]
    return sorted(found)


def _counts(module: str) -> bool:
    return module.split(".")[0] in COUNTED


def _exists(module: str) -> bool:
    return file_of(module).is_file()


def file_of(module: str) -> Path:
    """The file of a module of ours, by its dotted name below the package."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of ours that a module imports, wherever in it."""
    found = []
    for node in _statements(_tree(file_of(module))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            root, _, rest = name.partition(".")
            if root == PACKAGE.name and rest and _exists(rest):
                found.append(rest)
    return tuple(dict.fromkeys(found))


def _statements(node: object) -> Iterator[ast.AST]:
    """The statements within a node, at any depth: no expression holds one."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        within = getattr(node, name, None)
        for one in within if isinstance(within, list) else ():  # else a lambda's
            yield one
            yield from _statements(one)


@cache
def _meaning(path: Path) -> str:
    """A source's syntax tree as text: without positions, comments and docstrings."""
    text: list[str] = []
    _write(_tree(path), text.append)
    return "".join(text)


def _write(node: object, add: Callable[[str], None]) -> None:
    # Not ast.dump, whose text changes with the version of Python: empty fields are left out.
    if isinstance(node, ast.AST):
        add(type(node).__name__ + "(")
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("ctx", "kind", "type_comment"):
                continue
            if name == "body" and isinstance(value, list) and _is_docstring(value[0]):
                value = value[1:]
            add(name + "=")
            _write(value, add)
        add(")")
    elif isinstance(node, list):
        for one in node:
            _write(one, add)
            add(",")
    else:
        add(repr(node))


def _is_docstring(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _own() -> Iterator[Path]:
    for name in COUNTED:
        yield from PACKAGE.glob(f"{name}.py")
        yield from PACKAGE.glob(f"{name}/**/*.py")
    yield from map(file_of, ALWAYS)


note(_own())  # none of them is imported by what imports this
