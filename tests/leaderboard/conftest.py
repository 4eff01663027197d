"""A home of runs as training leaves it: records, per-example values, histories, sounds."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SEPARATION = "test/si_sdr_improvement_db"
EXAMPLES = 120


class Home:
    """Writes records into a folder; the numbers come from seeded generators."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, run_id: str, /, **fields: Any) -> Path:
        """One record; ``fields`` replace those of a finished final run."""
        head = fields.pop("head", "tanh")
        settings = {
            "task": {"_target_": "lightning_sep.tasks.separation.Separation", "sources": 2},
            "net": {"_target_": "lightning_sep.nets.wave_unet.WaveUnet", "levels": 4},
            "head": {"_target_": f"lightning_sep.heads.{head}.{head.title()}"},
            "loss": {"_target_": "lightning_sep.losses.si_sdr.SiSdr"},
            "reweighting": {"_target_": "lightning_sep.reweighting.uniform.Uniform"},
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001},
            "seed": fields.get("seed", 0),
        }
        for name, value in fields.pop("set", {}).items():
            group, leaf = name.split(".")
            settings[group][leaf] = value
        record = {
            "format": 1,
            "run_id": run_id,
            "config_hash": f"config-{head}",
            "state": "finished",
            "purpose": "final",
            "task": "separation",
            "settings": settings,
            "overrides": ["task=separation", f"head={head}", f"seed={fields.get('seed', 0)}"],
            "seed": 0,
            "sweep": "bounded_heads",
            "trial": None,
            "metrics": {},
            "monitor": {
                "name": "val/si_sdr_improvement_db",
                "mode": "max",
                "value": 1.0,
                "epoch": 9,
            },
            "parameters": 412_310,
            "data": {"synthetic": "d41d8cd98f00"},
            "environment": {"device": "cpu"},
            "attempts": 1,
            "error": None,
            "checkpoints": {},
            "examples_file": None,
            "wall_s": 93.25,
            "device_s": 90.0,
            "started": "2026-03-01T10:00:00+00:00",
            "finished": "2026-03-01T10:02:00+00:00",
            **fields,
        }
        folder = self.path / run_id  # a record may claim another id than its folder's
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps(record))
        return folder

    def separation(
        self, run_id: str, values: np.ndarray, *, history: list[float] | None = None, **fields: Any
    ) -> Path:
        """A finished separation run with its per-example values."""
        metrics = {SEPARATION: float(np.mean(values)), f"{SEPARATION}_std": float(np.std(values))}
        for q in (1, 5, 10, 25, 50, 75, 90, 95, 99):
            metrics[f"{SEPARATION}_q{q}"] = float(np.percentile(values, q))
        folder = self.write(run_id, metrics=metrics, examples_file="test_examples.json", **fields)
        (folder / "test_examples.json").write_text(json.dumps({SEPARATION: list(values)}))
        self.history(folder, "val/si_sdr_improvement_db", history or [])
        return folder

    def history(self, folder: Path, name: str, values: list[float]) -> None:
        """A run's ``metrics.jsonl``, its last line torn as a kill leaves it."""
        lines = [
            json.dumps({"epoch": epoch, "step": 16 * epoch, name: value})
            for epoch, value in enumerate(values)
        ]
        (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"epoch": 99, "st']))


def curve(
    generator: np.random.Generator, end: float, *, noise: float = 0.15, epochs: int = 20
) -> list[float]:
    """Something that rises like a validation score."""
    rise = end * (1 - np.exp(-np.arange(1, epochs + 1) / 5))
    return [float(v) for v in rise + generator.normal(0, noise, epochs)]


def fill_separation(home: Home) -> None:
    """Sweep "bounded_heads": five heads, five seeds each, and the search before them."""
    generator = np.random.default_rng(7)
    difficulty = generator.normal(0, 3, EXAMPLES)
    heads = {
        "clip_at_eval": 9.4,
        "straight_through_clip": 9.3,
        "tanh": 8.6,
        "sine": 8.0,
        "mu_law_softmax": 6.9,
    }
    for place, (head, level) in enumerate(heads.items()):
        taste = generator.normal(0, 0.6, EXAMPLES)
        for seed in range(100, 105):
            run_id = f"{place}{seed:011x}"
            more: dict[str, Any] = {"head": head, "seed": seed}
            more["overrides"] = [f"head={head}", "optimizer.lr=0.001", f"seed={seed}"]
            if head == "mu_law_softmax":
                more["set"] = {"head.temperature": 0.7}
                more["overrides"].insert(1, "head.temperature=0.7")
                more["parameters"] = 438_000
            if head == "sine" and seed == 104:
                error = "loss of 3 of 16 examples is not finite at step 812"
                home.write(run_id, state="failed", error=error, metrics={}, monitor={}, **more)
                continue
            values = level + difficulty + taste + generator.normal(0, 0.25)
            values = values + generator.normal(0, 0.8, EXAMPLES)
            history = curve(generator, float(values.mean()))
            folder = home.separation(run_id, values, history=history, **more)
            if seed == 100:
                write_sounds(folder, place)
    names = list(heads)
    for trial in range(28):
        head = names[int(generator.integers(len(names)))]
        rate = float(10 ** generator.uniform(-4.3, -2))
        rate = float(f"{rate:.3g}")
        value = heads[head] - 4 * (math.log10(rate) + 3) ** 2 + generator.normal(0, 0.3)
        state = "pruned" if value < 6 else "finished"
        more = {"set": {"optimizer.lr": rate}}
        overrides = [f"head={head}", f"optimizer.lr={rate}"]
        if head == "mu_law_softmax":
            temperature = round(float(generator.uniform(0.5, 1.5)), 2)
            more["set"]["head.temperature"] = temperature
            overrides.append(f"head.temperature={temperature}")
        if trial == 11:
            state, value = "failed", math.nan
        home.write(
            f"5ea4c{trial:07x}",
            head=head,
            purpose="search",
            state=state,
            trial=trial,
            config_hash=f"search-{trial}",
            overrides=overrides,
            monitor={}
            if state == "failed"
            else {
                "name": "val/si_sdr_improvement_db",
                "mode": "max",
                "value": value,
                "epoch": 9,
            },
            started=f"2026-02-01T{trial:02d}:00:00+00:00" if trial < 24 else "2026-02-02",
            **more,
        )


def write_sounds(folder: Path, place: int) -> None:
    """A mixture and a target that all runs share, an estimate of its own."""
    import soundfile

    (folder / "audio").mkdir()
    time_s = np.arange(8000) / 8000
    shared, own = np.sin(2 * np.pi * 220 * time_s), np.sin(2 * np.pi * (230 + place) * time_s)
    for name, samples in (
        ("0-mixture", shared),
        ("0-target-1", shared * 0.5),
        ("0-estimate-1", own),
    ):
        soundfile.write(folder / "audio" / f"{name}.flac", 0.3 * samples, 8000)


def fill_verification(home: Home) -> None:
    """Sweep "margins": equal error rates, lower is better, no per-example values."""
    generator = np.random.default_rng(11)
    for margin, level in ((0.5, 0.21), (2.0, 0.12), (8.0, 0.125)):
        for seed in range(5):
            rate = float(level + generator.normal(0, 0.008))
            folder = home.write(
                f"e{int(margin * 10):03d}{seed:08x}",
                task="verification",
                sweep="margins",
                head="softmax",
                config_hash=f"margin-{margin}",
                set={"loss.margin": margin},
                seed=seed,
                overrides=["task=verification", f"loss.margin={margin}"],
                metrics={"test/equal_error_rate": rate, "test/min_dcf": rate * 4},
                monitor={"name": "val/equal_error_rate", "mode": "min", "value": rate, "epoch": 4},
            )
            falling = [0.5 - v for v in curve(generator, 0.5 - rate, noise=0.008)]
            home.history(folder, "val/equal_error_rate", falling)


def fill_autoregression(home: Home) -> None:
    """Sweep "outputs": R², two settings, one seed each."""
    for head, score in (("mu_law_softmax", 0.61), ("logistic_mixture", 0.68)):
        home.write(
            f"a{len(head):011x}",
            task="autoregression",
            sweep="outputs",
            head=head,
            metrics={
                "test/r2": score,
                "test/r2_free_running": -0.2,
                "test/r2_zero": 0.0,
                "test/r2_repeat_last": 0.31,
            },
            monitor={"name": "val/r2", "mode": "max", "value": score, "epoch": 3},
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "runs")


@pytest.fixture(scope="session")
def new_home() -> Callable[[Path], Home]:
    """What makes a home in a folder."""
    return Home


@pytest.fixture(scope="session")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home of three sweeps; read only."""
    home = Home(tmp_path_factory.mktemp("full") / "runs")
    for fill in (fill_separation, fill_verification, fill_autoregression):
        fill(home)
    return home


@pytest.fixture(scope="session")
def fillers() -> Mapping[str, Callable[[Home], None]]:
    """What fills a home, by sweep."""
    return {
        "bounded_heads": fill_separation,
        "margins": fill_verification,
        "outputs": fill_autoregression,
    }
