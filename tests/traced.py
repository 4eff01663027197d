"""Run tests and write down which lines of a package each of them executes.

``python tests/traced.py OUT PACKAGE [PYTEST ARGUMENT ...]`` runs pytest and writes ``OUT``:
``[{"id": ..., "seconds": ..., "lines": {"package/x.py": [1, 2, ...]}}, ...]``, the paths relative
to the working folder. Lines of child processes count for the test that started them, unless the
child was killed; lines of a shared fixture count for every test that uses it. What runs while
modules are imported is left to chance. Exits as pytest does.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

# Whose lines a child process executes: read by coverage from the child's environment.
WHOSE = "LINES_OF"
SETTINGS = f"""
[run]
source = {{package}}
data_file = {{folder}}/lines
parallel = true
context = ${{{{{WHOSE}}}}}
sigterm = true
concurrency = multiprocessing, thread
patch = _exit
"""


class Tracer:
    """A plugin of pytest: names the context in which lines are executed.

    Args:
        measured: what measures them.
    """

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.contexts: dict[str, str] = {}  # test or fixture → its context
        self.uses: dict[str, set[str]] = {}  # test → the shared fixtures that it uses
        self.seconds: dict[str, float] = defaultdict(float)

    def _enter(self, whose: str) -> None:
        context = self.contexts.setdefault(whose, f"c{len(self.contexts)}")
        os.environ[WHOSE] = context
        self.measured.switch_context(context)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        definitions = getattr(item, "_fixtureinfo", None)
        self.uses[item.nodeid] = {
            _fixture(one)
            for ones in (definitions.name2fixturedefs.values() if definitions else ())
            for one in ones
            if one.scope != "function"
        }
        self._enter(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        self._enter(_fixture(fixturedef))
        try:
            return (yield)
        finally:
            self._enter(request._pyfuncitem.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def found(self, data: coverage.CoverageData) -> list[dict[str, object]]:
        """What ``OUT`` holds."""
        lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for file in data.measured_files():
            path = os.path.relpath(file)
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    lines[context][path].add(line)
        tests = []
        for test, seconds in self.seconds.items():
            merged: dict[str, set[int]] = defaultdict(set)
            for whose in (test, *self.uses.get(test, ())):
                for path, executed in lines[self.contexts.get(whose, "")].items():
                    merged[path] |= executed
            listed = {path: sorted(executed) for path, executed in sorted(merged.items())}
            tests.append({"id": test, "seconds": seconds, "lines": listed})
        return tests


def _fixture(definition: pytest.FixtureDef[object]) -> str:
    return f"fixture {definition.argname} of {definition.baseid}"


def main(arguments: list[str]) -> int:
    """Run pytest, write the lines."""
    out, package = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    folder = out.parent / f"{out.name}.measured"
    folder.mkdir()
    settings = folder / "coveragerc"
    settings.write_text(SETTINGS.format(package=package, folder=folder))
    for name in [one for one in os.environ if one.startswith(("COV_CORE_", "COVERAGE_"))]:
        del os.environ[name]  # of who measures this very process
    os.environ["COVERAGE_PROCESS_START"] = str(settings)
    os.environ[WHOSE] = ""
    measured = coverage.Coverage(config_file=str(settings))
    tracer = Tracer(measured)
    measured.start()
    code = int(pytest.main(arguments[2:], plugins=[tracer]))
    measured.stop()
    measured.save()
    measured.combine()
    out.write_text(json.dumps(tracer.found(measured.get_data())))
    return code


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).resolve().parent))  # its folders are no packages
    sys.exit(main(sys.argv[1:]))
