"""What stands in each cell of a board, wherever it is shown, is what its records say.

The expected numbers are worked out here, from the scores as they were written, by scipy.
"""

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from lightning_sep.cli.entry import main
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.document import as_json
from lightning_sep.leaderboard.page import page
from lightning_sep.leaderboard.plots import EDGE, FOREST_WIDTH, Forest
from lightning_sep.leaderboard.table import markdown, plain, print_rich
from lightning_sep.leaderboard.words import headline
from lightning_sep.record import write_record

RATE, DCF, VALIDATION = "test/equal_error_rate", "test/min_dcf", "val/equal_error_rate"
SEEDS = (3, 5, 8)
# Equal error rates by seed; the best on validation is not the best on test.
RATES = {"1.0": (0.21, 0.25, 0.22), "2.0": (0.12, 0.13, 0.1), "4.0": (0.125, 0.115, 0.13)}
SEEN = {"1.0": (0.3, 0.2, 0.25), "2.0": (0.11, 0.12, 0.13), "4.0": (0.11, 0.09, 0.13)}
COSTS = {"1.0": (0.7, 0.8, 0.6), "2.0": (0.5, 0.55, 0.45), "4.0": (0.25, 0.35, 0.6)}
SIZES = {"1.0": (950, "950"), "2.0": (41_234, "41.2 k"), "4.0": (5_512_000, "5.51 M")}
TOOK_S = {"1.0": (10, 20, 36), "2.0": (600, 660, 720), "4.0": (7000, 7100, 9300)}
TIMES = {"1.0": "22 s", "2.0": "11 min", "4.0": "2.2 h"}
ORDER = ("4.0", "2.0", "1.0")  # the best one, then by the mean
BEST = {"1.0": 5, "2.0": 3, "4.0": 5}  # the seed that validated best


def run_id(margin: str, seed: int) -> str:
    return f"{margin[0]}{seed:011x}"


def fill(home: Any) -> None:
    for trial, (margin, rates) in enumerate(RATES.items()):
        for at, seed in enumerate(SEEDS):
            seen = {"name": VALIDATION, "mode": "min", "value": SEEN[margin][at], "epoch": 4}
            home.write(
                run_id(margin, seed),
                task="verification",
                sweep="margins",
                config_hash=f"margin-{margin}",
                seed=seed,
                trial=trial,
                set={"loss.margin": float(margin)},
                overrides=["task=verification", f"loss.margin={margin}", f"seed={seed}"],
                metrics={RATE: rates[at], DCF: COSTS[margin][at]},
                monitor=seen,
                parameters=SIZES[margin][0],
                wall_s=float(TOOK_S[margin][at]),
                environment={"device": "cpu", "code_revision": "ab" * 20},
            )
    for seed, value in ((0, 0.31), (1, 0.33)):
        home.write(
            f"5{seed:011x}",
            task="verification",
            sweep="margins",
            purpose="search",
            config_hash="margin-8.0",
            seed=seed,
            trial=7,
            overrides=["task=verification", "loss.margin=8.0", f"seed={seed}"],
            monitor={"name": VALIDATION, "mode": "min", "value": value, "epoch": 4},
        )
    folder = home.path / run_id("2.0", 3)
    record = json.loads((folder / "record.json").read_text())
    del record["format"]
    (folder / "record.json").unlink()
    own = write_record(folder, record)["hashes"]["record"]
    said = json.dumps({"grade": "bitwise", "record": own})
    (folder / "verifications.jsonl").write_text(f"{said}\n")


@pytest.fixture(scope="module")
def margins(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Any]) -> Any:
    home = new_home(tmp_path_factory.mktemp("cells") / "runs")
    fill(home)
    return home


def around(values: Any, *, more: float = 0.0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and ends of Student's interval; ``more`` = 1 for that of another value."""
    values = np.asarray(values, dtype=float)
    scale = values.std(ddof=1) * np.sqrt(1 / len(values) + more)
    low, high = t.interval(level, len(values) - 1, loc=values.mean(), scale=scale)
    return float(values.mean()), float(low), float(high)


def to_best(margin: str) -> tuple[float, float, float]:
    """The difference to the best, both intervals of which hold together."""
    gaps = np.subtract(RATES[margin], RATES[ORDER[0]])
    return around(gaps, level=1 - 0.05 / 2)


def shown(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}".replace("-", "−")


def span(low: float, high: float, sign: str = "") -> str:
    return f"{shown(max(low, 0.0) if not sign else low, sign)} to {shown(high, sign)}"


class Cells(HTMLParser):
    """The text and the ``data-v`` of every cell of a table, by row."""

    def __init__(self, html: str, table: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str | None]]] = []
        self.at: str | None = None
        self.feed(re.search(rf'<table[^>]* id="{table}".*?</table>', html, re.DOTALL)[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(("", dict(attrs).get("data-v")))
            self.at = tag
        if tag in ("title", "svg"):
            self.at = None

    def handle_endtag(self, tag: str) -> None:
        if tag == self.at:
            self.at = None

    def handle_data(self, data: str) -> None:
        if self.at is not None:
            text, value = self.rows[-1][-1]
            self.rows[-1][-1] = text + data, value


def test_the_json_has_what_the_records_say(margins: Any) -> None:
    (found,) = as_json(load_boards(margins.path))["boards"]
    assert [row["settings"] for row in found["rows"]] == [{"loss.margin": one} for one in ORDER]
    for margin, row in zip(ORDER, found["rows"], strict=True):
        mean, low, high = around(RATES[margin])
        assert row["mean"] == pytest.approx(mean)
        assert row["interval"] == pytest.approx([max(low, 0.0), high])
        assert row["seed_interval"] == row["interval"]
        _, low, high = around(RATES[margin], more=1)
        assert row["next_seed"] == pytest.approx([max(low, 0.0), high])
        assert row["validation"] == pytest.approx(np.mean(SEEN[margin]))
        assert row["extras"] == {DCF: pytest.approx(np.mean(COSTS[margin]))}
        assert row["wall_s"] == pytest.approx(np.mean(TOOK_S[margin]))
        assert row["parameters"] == SIZES[margin][0]
        assert row["trial"] == list(RATES).index(margin)
        assert row["run_id"] == run_id(margin, BEST[margin])
        assert (row["verified"], row["differed"]) == (int(margin == "2.0"), 0)
        assert (row["commit"], row["device"]) == ("ab" * 20, "cpu")
        assert row["seeds"] == [
            {
                "seed": seed,
                "value": RATES[margin][at],
                "run_id": run_id(margin, seed),
                "command": "lightning-sep train task=verification "
                f"loss.margin={margin} seed={seed}",
            }
            for at, seed in enumerate(SEEDS)
        ]
    assert [row["place"] for row in found["rows"]] == [2, 1, 3]
    assert found["rows"][0]["difference"] is None
    for margin, row in zip(ORDER[1:], found["rows"][1:], strict=True):
        mean, low, high = to_best(margin)
        assert row["difference"]["mean"] == pytest.approx(mean)
        assert row["difference"]["interval"] == pytest.approx([low, high])
    (tried,) = found["tried"]
    assert tried["validation"] == pytest.approx(0.32)
    assert [one["seed"] for one in tried["runs"]] == [0, 1]
    assert found["best"]["run_id"] == run_id("4.0", 5)
    assert found["baselines"] == [{"label": "Chance", "value": 0.5}]


def test_the_headline_says_the_interval_of_the_best_row(margins: Any) -> None:
    (board,) = load_boards(margins.path).boards
    mean, low, high = around(RATES["4.0"])
    assert headline(board).startswith(
        f"Best of 4 settings tried: loss.margin=4.0, equal error rate {shown(mean)} % (95 % "
        f"interval {span(low, high)} for new seeds on this test set, with the same training "
        "data, 3 seeds)."
    )


def test_every_cell_of_the_page_has_its_number_and_its_heading(margins: Any) -> None:
    html = page(load_boards(margins.path))
    heads, *rows = Cells(html, "settings-0").rows
    names = [text for text, _ in heads]
    ends = ["Rank", "loss.margin", "Equal error rate (%)lower is better"]
    assert names[1:4] == ends
    assert names[5:] == [
        *("Difference to the best", "Validation", "Seeds", "Min DCF", "Sizeparameters"),
        *("Timeof a run", "Run again"),
    ]
    for at, margin in enumerate(ORDER):
        mean, low, high = around(RATES[margin])
        found = dict(zip(names, rows[at], strict=True))
        assert found["loss.margin"][0] == margin.removesuffix(".0")
        text, value = found[ends[2]]
        assert text == f"{shown(mean)}{span(low, high)}"
        assert float(value) == pytest.approx(100 * mean, rel=1e-5)
        text, value = found["Difference to the best"]
        if at:
            gap, low, high = to_best(margin)
            assert text == f"{shown(gap, '+')} {span(low, high, '+')}"
        else:
            gap = 0.0
            assert text.strip() == "–"
        assert float(value) == pytest.approx(100 * gap, rel=1e-5)
        text, value = found["Validation"]
        assert text == f"{shown(np.mean(SEEN[margin]))} %"
        assert float(value) == pytest.approx(100 * np.mean(SEEN[margin]), rel=1e-5)
        assert found["Seeds"][0] == "3"
        cost = np.mean(COSTS[margin])
        assert found["Min DCF"] == (f"{cost:.3f}", f"{cost:.6g}")
        assert found["Sizeparameters"] == (SIZES[margin][1], f"{SIZES[margin][0]:.6g}")
        assert found["Timeof a run"] == (TIMES[margin], f"{np.mean(TOOK_S[margin]):.6g}")
        text = f"Copy{run_id(margin, BEST[margin])}"
        assert found["Run again"][0] == text + ("verified once" if margin == "2.0" else "")
    tried = dict(zip([*names[:4], "said", "", "Validation"], rows[3], strict=False))
    assert tried["loss.margin"][0] == "8"
    assert tried["said"][0] == "searched with 2 seeds, validation 32.00 %, not run on fresh seeds"
    assert tried["Validation"] == ("32.00 %", "32")
    assert [text for text, _ in rows[4]][:2] == ["Chance trivial predictor", "50.00"]
    heads, trial = Cells(html, "trials-0").rows
    found = dict(zip([text for text, _ in heads], trial, strict=True))
    assert found["Trial"][0] == "7"
    assert found[f"{VALIDATION} (%)lower is better"] == ("32.00 %", "32")
    assert [found[one][0] for one in ("Began", "Took")] == ["2026-03-01 10:00", "93 s"]


def test_the_frame_of_the_page_counts_and_names_what_is_on_it(margins: Any, home: Any) -> None:
    html = page(load_boards(margins.path))
    for place, head in enumerate(("tanh", "sine")):
        for seed in range(2):
            metrics = {RATE: 0.3 - 0.1 * place} | {
                f"{RATE}_q{q}": 0.2 + 0.3 * place for q in (5, 95)
            }
            home.write(
                f"{head}{seed}",
                task="verification",
                head=head,
                seed=seed,
                metrics=metrics,
                finished=f"2026-03-0{2 + 2 * place - seed}T10:00:00+00:00",
            )
    short = page(load_boards(home.path))
    assert "1 board · 9 ranked runs · latest of 2026-03-01" in html
    assert "1 board · 4 ranked runs · latest of 2026-03-04" in short
    # of an error rate the lowest is the best
    assert short.count("<td data-q='5\u00a0%'><b>20.00</b>") == 1
    assert short.count("<td data-q='95\u00a0%'><b>20.00</b>") == 1
    assert "<td data-q='5\u00a0%'>50.00" in short
    shared = re.search(r'<details class="shared">.*?</details>', short)[0]
    assert "<dt>net</dt><dd>wave_unet</dd>" in shared
    assert "<dt>optimizer.lr</dt><dd>0.001</dd>" in shared
    assert "<dt>head</dt>" not in shared


def test_validation_is_in_the_shown_unit_where_nothing_was_searched_too(full_home: Any) -> None:
    html = page(load_boards(full_home.path, ["margins"]))
    heads, *rows = Cells(html, "settings-0").rows
    at = [text for text, _ in heads].index("Validation")
    (board,) = load_boards(full_home.path, ["margins"]).boards
    assert board.search is None
    for row, cells in zip(board.rows, rows, strict=False):
        assert cells[at] == (f"{shown(row.validation)} %", f"{100 * row.validation:.6g}")


def test_a_first_click_brings_the_best_to_the_top(margins: Any, full_home: Any) -> None:
    def first(html: str, words: str) -> str:
        return re.search(rf'data-first="(\w+)"><button[^>]*>{words}', html)[1]

    lower, higher = page(load_boards(margins.path)), page(load_boards(full_home.path))
    for words, html, way in (
        ("Equal error rate", lower, "ascending"),
        ("SI-SDR improvement", higher, "descending"),
        ("Difference to the best", lower, "ascending"),
        ("Difference to the best", higher, "descending"),
        ("Validation", lower, "ascending"),
        ("Validation", higher, "descending"),
        ("Rank", lower, "ascending"),
    ):
        assert first(html, words) == way, words


def test_a_button_copies_the_command_of_its_own_row(margins: Any) -> None:
    html = page(load_boards(margins.path))
    rows = re.findall(r'<tr id="[^"]*" data-s="(\d)".*?</tr>', html, re.DOTALL)
    buttons = dict(re.findall(r'data-s="(\d)" class="ranked.*?data-copy="([^"]+)"', html))
    assert len(rows) == 4
    for at, margin in enumerate(ORDER):
        command = re.search(rf'<code id="command-{buttons[str(at)]}">([^<]+)', html)[1]
        assert command == (
            f"lightning-sep train task=verification loss.margin={margin} seed={SEEDS[0]}"
        )
    again = re.findall(r"<details class=\"item\">.*?</details>", html, re.DOTALL)
    for margin, words in zip(ORDER, again, strict=True):
        assert f"<summary>{'1–2' if margin != '1.0' else '3'} · loss.margin={margin}<" in words
        assert f"lightning-sep reproduce {run_id(margin, SEEDS[0])}<" in words
        seeds = re.findall(r"<li>seed (\d) · ([\d.]+ %) · run <code>(\w+)", words)
        assert seeds == [
            (str(seed), f"{shown(RATES[margin][at])} %", run_id(margin, seed))
            for at, seed in enumerate(SEEDS)
        ]
        _, low, high = around(RATES[margin], more=1)
        assert f"<li>one more seed: {span(low, high)} %</li>" in words


@pytest.mark.parametrize("form", ["markdown", "plain", "rich"])
def test_tables_of_text_say_the_same(margins: Any, form: str) -> None:
    boards = load_boards(margins.path)
    if form == "rich":
        from rich.console import Console

        console = Console(width=300, record=True, file=StringIO())
        print_rich(boards, console)
        text = console.export_text()
    else:
        text = {"markdown": markdown, "plain": plain}[form](boards).replace("\\_", "_")
    for margin in ORDER:
        mean, low, high = around(RATES[margin])
        cells = [f"loss.margin={margin}", shown(mean), span(low, high)]
        if margin == ORDER[0]:
            cells.append("–")
        else:
            gap, low, high = to_best(margin)
            cells.append(f"{shown(gap, '+')} ({span(low, high, '+')})")
        cells += ["3", f"{np.mean(COSTS[margin]):.3f}", SIZES[margin][1], TIMES[margin]]
        cells.append(run_id(margin, BEST[margin]) + (", verified once" * (margin == "2.0")))
        (line,) = (one for one in text.splitlines() if cells[0] in one and SIZES[margin][1] in one)
        found = re.split(r"\s*[|│]\s*|\s{2,}", line.strip(" |"))
        assert found[1:] == cells
        assert found[0] == ("1–2" if margin != "1.0" else "3")
    (line,) = (one for one in text.splitlines() if "Chance (trivial)" in one)
    assert "50.00" in line
    assert "Tried in the search alone, so not ranked:" in text
    assert "searched with 2 seeds, validation 32.00 %, not run on fresh seeds" in text
    assert "Code: commit abababababab." in text
    if form == "markdown":
        commands = [one.strip() for one in text.splitlines() if one.startswith("    ")]
        assert commands == [
            f"lightning-sep train task=verification loss.margin={margin} seed={SEEDS[0]}"
            for margin in ORDER
        ]


def test_a_table_for_others_has_every_runs_own_numbers(
    margins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(margins.path))
    assert main(["export", "margins", "--csv", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = {line["run_id"]: line for line in csv.DictReader(file)}
    assert len(lines) == 11
    for place, margin in zip((2, 1, 3), ORDER, strict=True):
        for at, seed in enumerate(SEEDS):
            line = lines[run_id(margin, seed)]
            assert float(line[RATE]) == RATES[margin][at]
            assert float(line[DCF]) == COSTS[margin][at]
            assert float(line[VALIDATION]) == SEEN[margin][at]
            assert float(line["wall_s"]) == TOOK_S[margin][at]
            assert (line["seed"], line["place"]) == (str(seed), str(place))
            assert line["setting/loss.margin"] == margin
            assert line["parameters"] == str(SIZES[margin][0])
            assert (line["state"], line["purpose"]) == ("finished", "final")
            assert (line["best"], line["device"]) == (str(margin == ORDER[0]), "cpu")
            assert (line["commit"], line["data"]) == ("ab" * 20, "synthetic:d41d8cd98f00")
    assert (lines["5" + "0" * 11]["standing"], lines["5" + "0" * 11]["trial"]) == ("searched", "7")


def test_a_terminal_has_the_rows_that_may_be_best_in_bold(margins: Any) -> None:
    from rich.console import Console

    console = Console(width=300, record=True, file=StringIO(), force_terminal=True)
    print_rich(load_boards(margins.path), console)
    lines = console.export_text(styles=True).splitlines()
    for margin in ORDER:
        (line,) = (one for one in lines if SIZES[margin][1] in one)
        bold = re.search(rf"\x1b\[1m[^\x1b]*loss.margin={margin}", line)
        assert (bold is not None) is (margin != "1.0")


def paths(picture: str) -> dict[str, list[float]]:
    """Where the steps of each path of a picture begin, by its class."""
    found = {}
    for kind, steps in re.findall(r'<path class="(\w+)" d="([^"]+)"', picture):
        found[kind] = [float(one) for one in re.findall(r"M([-\d.]+)", steps)]
    return found


def test_the_scale_of_the_forest_is_in_the_shown_unit_and_holds_the_trivial_predictor(
    home: Any,
) -> None:
    for head, rates in (("tanh", (0.4, 0.44, 0.43)), ("sine", (0.46, 0.47, 0.49))):
        for seed, rate in enumerate(rates):
            more = {"task": "verification", "head": head, "seed": seed, "sweep": "margins"}
            home.write(f"{head}{seed}", metrics={RATE: rate}, **more)
    (board,) = load_boards(home.path).boards
    forest = Forest(board, 0)
    picture = forest.head()
    labels = re.findall(r'<text class="t" x="([\d.]+)"[^>]*>([\d.]+)</text>', picture)
    assert len(labels) > 2
    for x, words in labels:
        assert float(x) == pytest.approx(forest.scale(float(words) / 100), abs=0.06)
    assert "</svg>Chance, 50.00 %</span>" in page(load_boards(home.path))
    assert paths(picture)["baseline"] == [pytest.approx(forest.scale(0.5), abs=0.06)]
    for row in board.rows:
        mean, low, high = around([score.value for score in row.scores])
        drawn = forest.row(row)
        seeds = ", ".join(shown(score.value) for score in row.scores)
        assert f"<title>Mean {shown(mean)} %; 95 % interval {span(low, high)}; seeds: {seeds}" in (
            drawn
        )
        assert paths(drawn)["dots"] == pytest.approx(
            [forest.scale(score.value) for score in row.scores], abs=0.06
        )


def test_an_interval_ends_where_the_metric_does(home: Any) -> None:
    for seed, rate in enumerate((0.01, 0.05, 0.002)):
        home.write(f"a{seed}", task="verification", seed=seed, metrics={RATE: rate})
    (board,) = load_boards(home.path).boards
    forest, (row,) = Forest(board, 0), board.rows
    assert row.interval.low < 0
    for kind in ("reach", "seeds"):
        (start,) = re.findall(rf'class="{kind}" d="M([\d.]+) ', forest.row(row))
        assert float(start) == pytest.approx(forest.scale(0.0), abs=0.06)
    assert forest.scale.low < 0 < forest.scale(0.0) - EDGE


@pytest.mark.parametrize("higher", [True, False])
def test_what_collapsed_is_an_arrow_at_the_side_where_it_is(home: Any, higher: bool) -> None:
    task, key = ("separation", "test/si_sdr_improvement_db") if higher else ("verification", RATE)
    good, bad = (5.0, -30.0) if higher else (0.1, 0.6)
    for head, level in (("tanh", good), ("sine", good), ("cosine", bad)):
        for seed in range(3):
            more = {"task": task, "head": head, "seed": seed}
            home.write(f"{head}{seed}", metrics={key: level + 0.01 * seed}, **more)
    (board,) = load_boards(home.path).boards
    found = {row.name: paths(Forest(board, 0).row(row)) for row in board.rows}
    assert "arrow" not in found["head=tanh"]
    (x,) = found["head=cosine"]["arrow"]
    assert x < EDGE if higher else x > FOREST_WIDTH - EDGE
    legend = page(load_boards(home.path)).partition('<div class="legend">')[2]
    begin, tip = re.search(r'class="arrow" d="M(\d+) 2L(\d+) 7', legend).groups()
    assert (int(tip) < int(begin)) is higher  # it points where the arrows of the rows do
