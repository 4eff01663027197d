"""How long each command takes to answer, against Python, and torch, doing nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from _measure import PROGRAM, Line, cpu_s, environment, in_turn, run

TINY = [
    *("examples.train=8", "examples.val=4", "examples.test=4", "examples.batch_size=4"),
    *("trainer.epochs=1", "trainer.progress=false", "tracking=none"),
]


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    train = [*PROGRAM, "train", *TINY]
    trained = json.loads(run([*train, "examples.segment_s=0.25", "--json"], env))["run_id"]
    sound = folder / "mixture.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * 8000)
    soundfile.write(sound, noise, 8000)
    bare = [sys.executable, "-c"]
    for arguments, peer in [
        (["--help"], "pass"),
        (["train", "--help"], "pass"),
        (["status"], "pass"),
        (["leaderboard"], "pass"),
        (["data", "list"], "pass"),
        ([*train[len(PROGRAM) :], "examples.segment_s=0.25"], "import torch"),
        (["separate", trained, sound, "--out", folder / "separated"], "import torch"),
    ]:
        command = [*PROGRAM, *arguments]
        ours, theirs = in_turn(
            rounds,
            lambda command=command: cpu_s(command, env),
            lambda peer=peer: cpu_s([*bare, peer], env),
        )
        name = {"train": "train, finished already", "separate": "separate, 3 s of sound"}
        first = str(arguments[0])
        what = name[first] if first in name and "--help" not in arguments else " ".join(arguments)
        yield Line("start", what, f'python -c "{peer}"', ours, theirs)
