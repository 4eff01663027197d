"""Imports point one way: what a part may use stands to its left, and nothing points back."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lightning_sep"
LAYERS = [
    {"errors", "memory", "homes", "sources", "terminal", "rooms"},
    {"checks", "fsio", "fingerprint"},
    {"functional"},
    {"settings", "record", "devices", "optimizers", "trainer_settings", "faults", "run_folder"},
    {"run_id", "leases", "checkpoint_files", "find", "ranks"},
    {"heads", "losses", "reweighting", "nets", "data", "metrics", "plans", "tracking"},
    {"tasks"},
    {"callbacks", "warm_start"},
    {"parts", "watching", "training", "train_on"},
    {"experiment"},
    {"launchers", "leaderboard", "use"},
    {"evaluate", "reproduce", "listen"},
    {"sweep"},
    {"api"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each import of our own, as module and first part below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = node.module or ""
            names = [module] if "." in module else [f"{module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("lightning_sep.") and not name.endswith(".__version__"):
                yield name, name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module, there in imported(path):
        assert there == here or RANK[there] < RANK[here], f"{here} must not import {module}"


def test_no_file_imports_itself_through_others() -> None:
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES}
    graph = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): {
            module for module, _ in imported(path) if module in files
        }
        for path in FILES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_tasks_know_of_data_only_what_a_batch_is_and_its_facts() -> None:
    for path in (PACKAGE / "tasks").glob("*.py"):
        of_data = {module for module, there in imported(path) if there == "data"}
        assert of_data <= {"lightning_sep.data.batch", "lightning_sep.data.facts"}, path


@pytest.mark.parametrize("library", ["hydra", "wandb", "optuna", "lhotse"])
def test_each_heavy_library_has_its_own_room(library: str) -> None:
    rooms = {
        "hydra": {"settings"},
        "wandb": {"tracking"},
        "optuna": {"sweep"},
        "lhotse": {"data"},
    }[library]
    for path in FILES:
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            if any(name.split(".")[0] == library for name in names):
                assert here in rooms, f"{path} imports {library}"
