"""Run the benchmarks: one table on stdout, one JSON file.

``python tests/benchmarks`` runs all of them; ``python tests/benchmarks start settings`` some. A
benchmark is a file of this folder with a function ``lines(rounds, folder)``.
"""

import argparse
import importlib
import json
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

from _measure import ROOT, Line, table

HERE = Path(__file__).parent
SUBJECTS = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each pair (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), metavar="FILE")
    arguments = parser.parse_args()
    unknown = set(arguments.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"no {', '.join(sorted(unknown))}; known: {', '.join(SUBJECTS)}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    lines: list[Line] = []
    for name in arguments.subjects or SUBJECTS:
        with tempfile.TemporaryDirectory(prefix="lightning-sep-bench-") as folder:
            for line in importlib.import_module(name).lines(arguments.rounds, Path(folder)):
                lines.append(line)
                said = f"{name}: {line.what}: {median(line.ratios):.3g} of {line.peer_name}"
                print(said, file=sys.stderr, flush=True)
    document = {"about": about(), "rounds": arguments.rounds, "lines": [x.as_json() for x in lines]}
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(lines))
    return 0


def about() -> dict[str, object]:
    """The machine, the versions and the revision that the figures belong to."""
    git = ["git", "-C", str(ROOT)]
    said = [
        subprocess.run([*git, *rest], capture_output=True, text=True).stdout.strip()
        for rest in (["rev-parse", "HEAD"], ["status", "--porcelain"])
    ]
    packages = ("torch", "pytorch-lightning", "optuna", "hydra-core", "lhotse", "numpy", "scipy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": said[0],
        "changed": bool(said[1]),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
