"""Boards as their runs grow: how soon they are ranked, what their page weighs, and how soon a
browser has opened it."""

import hashlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _measure import ROOT, Line

sys.path.insert(0, str(ROOT))
FEW, MANY, MOST = 100, 1000, 10_000
SEEDS, EXAMPLES, EPOCHS = 5, 100, 30
SCORE, MONITOR = "test/si_sdr_improvement_db", "val/si_sdr_improvement_db"
HEADS = ("tanh", "sine", "hard_clip")


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    from lightning_sep.leaderboard.board import load_boards
    from lightning_sep.leaderboard.page import page

    _fill(folder / "most", MOST)
    read, ranked = [], []
    for _ in range(rounds):
        read.append(
            _seconds(lambda: [json.loads(p.read_text()) for p in (folder / "most").rglob("*.json")])
        )
        ranked.append(_seconds(lambda: load_boards(folder / "most")))
    what = f"{MOST:,} records ranked, {MOST // 2 // SEEDS:,} settings"
    yield Line("page", what, "their files parsed", ranked, read, "s")
    pages = {}
    for count in (FEW, MANY):
        _fill(folder / f"runs_{count}", count)
        pages[count] = folder / f"page_{count}.html"
        pages[count].write_text(page(load_boards(folder / f"runs_{count}")), encoding="utf-8")
    few, many = (pages[count].stat().st_size / 1e6 for count in (FEW, MANY))
    yield Line("page", f"size with {MANY:,} runs", f"with {FEW}", [many], [few], "MB")
    opened = [_opened(pages[MANY], pages[FEW], folder / f"profile_{n}") for n in range(rounds)]
    times = [one for one in opened if one is not None]
    if not times:
        print("page: no chromium, chromedriver and selenium here", file=sys.stderr)
        return
    yield Line(
        "page",
        f"opened in Chromium with {MANY:,} runs",
        f"with {FEW}",
        [ours for ours, _ in times],
        [peer for _, peer in times],
        "s",
    )


def _seconds(do: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    do()
    return time.perf_counter() - started_s


def _fill(home: Path, count: int) -> None:
    """Half of ``count`` runs are finals on five seeds, the others a search."""
    from lightning_sep.fingerprint import digest

    draw = random.Random(count)
    for place in range(count):
        final = place < count // 2
        setting = place // SEEDS if final else place
        chosen = random.Random(setting)
        rate, alpha = 10 ** chosen.uniform(-4, -2), chosen.random()
        head, seed = HEADS[setting % len(HEADS)], 1000 + place % SEEDS
        values = [chosen.gauss(5, 3) + draw.gauss(0, 1) for _ in range(EXAMPLES)]
        mean = sum(values) / EXAMPLES
        run = home / f"{place:012x}"
        run.mkdir(parents=True)
        minute = f"2026-03-{1 + place // 720:02d}T{place // 30 % 24:02d}:{place % 30:02d}"
        record = {
            "format": 2,
            "run_id": run.name,
            "config_hash": f"{'final' if final else 'search'}{setting}",
            "state": "finished",
            "purpose": "final" if final else "search",
            "task": "separation",
            "settings": {"head": {"_target_": f"heads.{head}.Head"}, "optimizer": {"lr": rate}},
            "overrides": [f"head={head}", f"optimizer.lr={rate:.4g}", f"loss.alpha={alpha:.4g}"],
            "seed": seed if final else 0,
            "sweep": "many",
            "trial": None if final else place,
            "metrics": {SCORE: mean} if final else {},
            "monitor": {"name": MONITOR, "mode": "max", "value": mean, "epoch": 3},
            "examples_file": "test_examples.json" if final else None,
            "wall_s": 60.0,
            "started": f"{minute}:00",
            "finished": f"{minute}:59",
        }
        examples = json.dumps({SCORE: values})
        known = hashlib.sha256(examples.encode()).hexdigest() if final else None
        record["hashes"] = {"examples": known, "record": ""}
        record["hashes"] = {"examples": known, "record": digest(record)}
        (run / "record.json").write_text(json.dumps(record))
        if final:
            (run / "test_examples.json").write_text(examples)
            curve = [{"epoch": n, MONITOR: mean * n / EPOCHS} for n in range(EPOCHS)]
            (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, curve)) + "\n")


def _opened(ours: Path, peer: Path, profile: Path) -> tuple[float, float] | None:
    """Seconds until each page has loaded, in a browser of its own; None without a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        return None
    if chromium is None or driver is None:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        found = []
        for path in (peer, ours):
            browser.get(path.as_uri())
            found.append(
                browser.execute_script(
                    "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
                )
            )
        return found[1], found[0]
    finally:
        browser.quit()
