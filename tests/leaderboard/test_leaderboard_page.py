"""The page and the command: what is written, printed and never let through."""

import base64
import json
import re
import subprocess
import sys
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.commands import boards_of, leaderboard, write_page
from lightning_sep.leaderboard.document import as_json
from lightning_sep.leaderboard.entries import axes_of, entries_of
from lightning_sep.leaderboard.page import AUDIO_BYTES, page
from lightning_sep.leaderboard.plots import EDGE, FOREST_WIDTH, Forest, pareto_front
from lightning_sep.leaderboard.svg import Scale
from lightning_sep.leaderboard.table import markdown, plain, time_text
from lightning_sep.leaderboard.words import summary_line

SEPARATION = "test/si_sdr_improvement_db"
ECHARTS = "a489825a870b425adb72496fd96ec63c3497427d36b553827406ad4494fa9563"


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all that opened was closed in order."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html(full_home) -> str:
    return page(load_boards(full_home.path))


class TestPage:
    def test_same_records_give_the_same_bytes(self, full_home, html: str) -> None:
        assert page(load_boards(full_home.path)) == html

    def test_tags_are_closed_in_order(self, html: str) -> None:
        assert Tags(html).open == []

    def test_nothing_on_it_can_be_fetched(self, html: str) -> None:
        tags = Tags(html).seen
        policy = next(a["content"] for t, a in tags if a.get("http-equiv"))
        assert policy.startswith("default-src 'none';")
        links = [a.get("src") or a.get("href") for _, a in tags if "src" in a or "href" in a]
        assert links
        assert all(link.startswith(("#", "data:")) for link in links)

    def test_the_policy_lets_no_script_run_but_the_pages_own(self, html: str) -> None:
        policy = next(a["content"] for _, a in Tags(html).seen if a.get("http-equiv"))
        allowed = re.search(r"script-src ([^;]+);", policy)[1].split()
        scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        hashes = [base64.b64encode(sha256(one.encode()).digest()).decode() for one in scripts]
        assert allowed == [f"'sha256-{one}'" for one in hashes]
        assert len(allowed) == 3  # a line of our own, the library of the charts, and our script

    def test_own_script_is_small(self, html: str) -> None:
        script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)[-1]
        assert 1000 < len(script) < 60_000

    def test_the_library_is_the_one_that_was_vendored(self) -> None:
        folder = files("lightning_sep.leaderboard") / "echarts"
        library = (folder / "echarts.min.js").read_bytes()
        assert sha256(library).hexdigest() == ECHARTS
        assert b"6.1.0" in library.partition(b"\n")[0]
        assert "Apache License" in (folder / "LICENSE").read_text()
        assert "Apache Software Foundation" in (folder / "NOTICE").read_text()
        assert b"eval(" not in library
        assert b"new Function" not in library

    def test_every_picture_is_named_or_hidden(self, html: str) -> None:
        for found in re.finditer(r"<svg ([^>]*)>(<title>[^<]+</title>)?", html):
            named = ("role=" in found[1] and found[2]) or 'aria-hidden="true"' in found[1]
            assert named, found[0]

    def test_every_header_cell_has_a_scope(self, html: str) -> None:
        heads = [attributes for tag, attributes in Tags(html).seen if tag == "th"]
        assert heads
        assert all(attributes.get("scope") in ("col", "row") for attributes in heads)

    def test_boards_are_in_the_navigation(self, html: str) -> None:
        links = re.findall(r'<a href="#(board-\d)">([^<]+)</a>', html)
        assert links == [
            ("board-0", "bounded_heads"),
            ("board-1", "margins"),
            ("board-2", "outputs"),
        ]

    def test_failures_are_marked_by_more_than_colour(self, html: str) -> None:
        assert "✕ failed" in html
        assert (
            "head=sine optimizer.lr=0.001: 4 of 5 fresh seeds finished; seed 104 failed: loss of"
            in html
        )
        assert "loss of 3 of 16 examples is not finite at step 812" in html

    def test_sounds_are_embedded_once_each(self, html: str) -> None:
        # an estimate of each ranked row; the mixture and the target are the same sounds in all runs
        assert html.count('src="data:audio/flac;base64,') == 6

    def test_sounds_end_at_their_budget(self, home) -> None:
        folder = home.write("a", metrics={SEPARATION: 1.0})
        (folder / "audio").mkdir()
        for place in range(3):
            (folder / "audio" / f"{place}-estimate-1.mp3").write_bytes(bytes([place]) * 700_000)
        text = page(load_boards(home.path))
        assert text.count("data:audio/mpeg") == 2
        assert "1 file found no room" in text
        assert len(text) < AUDIO_BYTES + 800_000

    def test_a_board_of_speakers_without_sounds_says_where_they_come_from(self, full_home) -> None:
        words = "The end of a sweep makes the sounds of the pairs that were confused"
        assert words in page(load_boards(full_home.path, ["margins"]))
        assert "<h3>Listen</h3>" not in page(load_boards(full_home.path, ["outputs"]))

    def test_a_link_in_an_audio_folder_is_not_followed(self, home, tmp_path: Path) -> None:
        folder = home.write("a", metrics={SEPARATION: 1.0})
        (folder / "audio").mkdir()
        (tmp_path / "private.mp3").write_bytes(b"private")
        (folder / "audio" / "0-estimate-1.mp3").symlink_to(tmp_path / "private.mp3")
        assert "data:audio" not in page(load_boards(home.path))

    def test_an_empty_home_says_what_to_do(self, tmp_path: Path) -> None:
        text = page(load_boards(tmp_path))
        assert "No runs yet. <code>lightning-sep sweep SWEEP.py</code>" in text

    def test_a_sweep_without_finals_shows_its_search(self, home) -> None:
        for trial in range(3):
            value = {"name": "val/x", "mode": "max", "value": float(trial), "epoch": 1}
            home.write(f"s{trial}", purpose="search", trial=trial, monitor=value)
        text = page(load_boards(home.path))
        assert "No final runs yet" in text
        assert "searched with 3 seeds, validation 1, not run on fresh seeds" in text


def test_the_scale_of_the_intervals_ends_within_the_column(full_home) -> None:
    (board,) = load_boards(full_home.path, ["bounded_heads"]).boards
    forest = Forest(board, 0)
    assert forest.scale(forest.scale.low) == EDGE
    assert forest.scale(forest.scale.high) == FOREST_WIDTH - EDGE
    assert forest.scale.low < forest.scale.high


def test_of_many_settings_the_first_have_their_commands_on_the_page(
    full_home, html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "more rows." not in html
    found = load_boards(full_home.path, ["margins"])
    monkeypatch.setattr("lightning_sep.leaderboard.figures.MOST_AGAIN", 1)
    text = page(found)
    assert "The JSON has the commands of 2 more rows." in text
    assert text.count('<details class="item">') == 1


def test_the_best_row_has_no_empty_interval_of_a_difference(html: str) -> None:
    assert '<span class="sub"></span>' not in html


def test_a_metric_is_scaled_and_named_on_any_stage(full_home) -> None:
    (board,) = load_boards(full_home.path, ["margins"]).boards
    assert board.metric.scale_of("val/equal_error_rate") == 100
    assert board.metric.title_of("val/equal_error_rate") == "val/equal_error_rate (%)"
    assert board.metric.scale_of("val/loss") == 1
    assert board.metric.title_of("val/loss") == "val/loss"


def test_a_setting_is_short_without_the_names_that_its_values_tell(full_home) -> None:
    (board,) = load_boards(full_home.path, ["bounded_heads"]).boards
    (entry,) = (one for one in entries_of(board) if one.row and "mu_law" in one.name)
    assert entry.short == "mu_law_softmax · lr=0.001 · temperature=0.7"


@pytest.mark.parametrize(
    ("rates", "logarithmic"),
    [
        ((0.001, 0.0045, 0.02), True),  # twenty times is enough
        ((0.001, 0.0043, 0.0199), False),
        ((0.001, 0.0072, 0.02), True),  # 0.16 from the middle of their decades, 0.17 of their range
        ((0.001, 0.01, 0.02), False),  # evenly over their range
        ((-0.001, 0.0045, 0.02), False),
    ],
)
def test_an_axis_is_logarithmic_where_values_lie_over_decades(home, rates, logarithmic) -> None:
    for place, rate in enumerate(rates):
        about = {"set": {"optimizer.lr": rate}, "overrides": [f"optimizer.lr={rate}"]}
        home.write(f"r{place}", metrics={SEPARATION: 1.0}, config_hash=str(place), **about)
    (board,) = load_boards(home.path).boards
    (axis,) = axes_of(entries_of(board), board.axes)
    assert (axis.name, axis.is_number) == ("optimizer.lr", True)
    assert axis.is_logarithmic is logarithmic


def charts_of(html: str) -> list[dict]:
    """The numbers that the charts are drawn from."""
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


@pytest.fixture
def hostile(home):
    """A home where every text that a record may hold is an attack."""
    for place in range(2):
        folder = home.write(
            f"run{place}",
            config_hash=f"{EVIL}{place}",
            run_id=EVIL,
            sweep=EVIL,
            seed=place,
            set={"head.name": f"{EVIL}{place}", "net.name": f"{EVIL}{place}"},
            overrides=[f"head.name={EVIL}{place}"],
            metrics={SEPARATION: 1.0 + place},
            data={EVIL: EVIL},
            environment={"device": f"{EVIL}{place}"},
            monitor={"name": EVIL, "mode": "max", "value": 1.0, "epoch": 1},
            finished=EVIL,
        )
        home.history(folder, EVIL, [0.1, 0.2, 0.3])
        (folder / "audio").mkdir()
        name = f"0-{EVIL}.mp3".replace("/", "")
        (folder / "audio" / name).write_bytes(bytes([place]))
        home.write(
            f"search{place}",
            purpose="search",
            trial=place,
            sweep=EVIL,
            set={"head.name": f"{EVIL}{place}"},
            monitor={"name": EVIL, "mode": "max", "value": 1.0 + place, "epoch": 1},
        )
    home.write("failed", sweep=EVIL, state="failed", error=EVIL, monitor={})
    (home.path / "bad<script>").mkdir()
    (home.path / "bad<script>" / "record.json").write_text('{"format": "<script>"}')
    return home


class TestHostileRecords:
    def test_no_setting_becomes_a_tag(self, hostile) -> None:
        tags = [tag for tag, _ in Tags(page(load_boards(hostile.path))).seen]
        assert tags.count("script") == 4  # ours, the charts' numbers, and their library
        assert "img" not in tags

    def test_the_page_stays_whole(self, hostile) -> None:
        assert Tags(page(load_boards(hostile.path))).open == []

    def test_no_attribute_is_broken_out_of(self, hostile) -> None:
        for _, attributes in Tags(page(load_boards(hostile.path))).seen:
            assert not any(name.startswith("on") for name in attributes)

    def test_markdown_shows_tags_as_text(self, hostile) -> None:
        outside_code = [
            line
            for line in markdown(load_boards(hostile.path)).splitlines()
            if not line.startswith("    ")
        ]
        assert not any("<script" in line for line in outside_code)

    def test_a_sweeps_name_cannot_choose_where_to_write(self, home) -> None:
        home.write("a", sweep="../../elsewhere", metrics={SEPARATION: 1.0})
        with pytest.raises(ConfigError, match="cannot name a sweep's folder"):
            write_page(["../../elsewhere"], home.path)

    def test_half_a_character_is_written_as_a_question_mark(self, home) -> None:
        home.write("a", overrides=["x=\ud800"], metrics={SEPARATION: 1.0})
        write_page(["bounded_heads"], home.path)
        text = (home.path / "sweeps" / "bounded_heads" / "report.html").read_text()
        assert "x=?" in text


def test_a_time_is_told_in_the_unit_that_suits_it() -> None:
    assert [time_text(one) for one in (None, 119.4, 120, 7199, 7200)] == [
        *("–", "119 s", "2 min", "120 min", "2.0 h")
    ]


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0.13, 0.87, 0, 100).ticks(4) == [0.2, 0.4, 0.6, 0.8]
    assert Scale(0, 1, 0, 100).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1]  # as many as are wanted


class TestWhatIsDrawn:
    """Numbers of the page are those of the JSON."""

    def two(self, home, *levels: tuple[float, float], seeds: int = 3):
        """Settings of a mean and a spread: a wider one has worse hard examples."""
        shape = np.linspace(-1, 1, 41)
        for place, (mean, spread) in enumerate(levels):
            for seed in range(seeds):
                values = mean + 0.1 * seed + spread * shape
                monitor = {"name": "val/x", "mode": "max", "value": -place, "epoch": 1}
                head = f"h{place}"
                more = {"head": head, "seed": seed, "monitor": monitor}
                home.separation(f"{head}{seed}", values, **more)
        (board,) = load_boards(home.path).boards
        return board, page(load_boards(home.path)), as_json(load_boards(home.path))["boards"][0]

    def test_the_difference_column(self, home) -> None:
        _, html, found = self.two(home, (5.0, 1.0), (4.0, 1.0))
        gap = found["rows"][1]["difference"]
        assert gap["mean"] == pytest.approx(-1.0)
        cell = re.search(r'class="difference" data-v="(-[^"]+)">(.*?)</td>', html)
        assert float(cell[1]) == pytest.approx(gap["mean"])
        low, high = (f"{end:+.2f}".replace("-", "−") for end in gap["interval"])
        assert cell[2] == f'−1.00 <span class="sub">{low} to {high}</span>'
        assert found["rows"][0]["difference"] is None
        lines = plain(load_boards(home.path)).splitlines()
        best = next(line for line in lines if line.startswith("1 ") and "head=h0" in line)
        assert "–" in best.split()  # in place of a difference to itself

    @pytest.mark.parametrize(
        ("seeds", "standings"),
        [
            (3, ["best", "may be best", ""]),
            (2, ["best", "may be best", ""]),
            (1, ["best", "not tested", "not tested"]),
        ],
    )
    def test_one_row_is_the_best_and_others_may_be(self, home, seeds: int, standings) -> None:
        _, html, found = self.two(home, (5.0, 1.0), (5.0, 1.0), (1.0, 1.0), seeds=seeds)
        assert [row["may_be_best"] for row in found["rows"]] == [True, True, seeds == 1]
        ranks = re.findall(
            r'class="rank" data-v="\d">.*?>([^<]+)</a>(?:<span class="sub">([^<]+))?', html
        )
        assert [standing for _, standing in ranks] == standings

    def test_percentiles_with_their_intervals_and_the_middle_half(self, home) -> None:
        _, html, found = self.two(home, (5.0, 1.0), (4.0, 1.0))
        row = found["rows"][0]
        low, high = row["percentile_intervals"]["q5"]
        mean = row["percentiles"]["q5"]
        assert f'<b>{mean:.2f}</b><span class="sub">{low:.2f} to {high:.2f}</span>' in html
        assert f"<b>{found['rows'][1]['percentiles']['q5']:.2f}</b>" not in html
        low, high = row["interquartile_interval"]
        mean = row["interquartile_mean"]
        assert mean == pytest.approx(5.1)
        assert "Left columns are the hard examples" in html
        rates = {"test/equal_error_rate": 0.1, "test/equal_error_rate_q95": 0.4}
        home.write("v", sweep="other", task="verification", metrics=rates)
        other = page(load_boards(home.path, ["other"]))
        assert "Right columns are the hard examples" in other
        assert f'<b>{mean:.2f}</b><span class="sub">{low:.2f} to {high:.2f}</span>' in html

    def test_who_is_behind_in_neither_mean_nor_hard_examples_is_on_the_line(self, home) -> None:
        levels = ((5.0, 4.0), (4.5, 1.0), (4.4, 2.0))  # the third is behind the second in both
        board, html, found = self.two(home, *levels)
        assert [row.name for row in pareto_front(board)] == ["head=h0", "head=h1"]
        assert found["pareto_front"] == ["config-h0", "config-h1"]
        drawn = charts_of(html)[0]["settings"]
        assert [one.get("front") for one in drawn] == [1, 1, None]
        row = found["rows"][1]
        ends = [row["percentiles"]["q5"], *row["percentile_intervals"]["q5"]]
        assert drawn[1]["hard"] == pytest.approx(ends, rel=1e-5)

    def test_what_a_setting_explains_of_the_search_by_hand(self, home) -> None:
        """Heads of 1, 2 and 5, 6: 1 - (1 / 2) / (17 / 3) of the spread; of pairs (1, 5) and (2, 6)
        none, and of ten rates that step up two by two all of it."""

        def searched(sweep: str, place: int, rate: float, value: float, head: str) -> None:
            monitor = {
                "name": "val/si_sdr_improvement_db",
                "mode": "max",
                "value": value,
                "epoch": 1,
            }
            asked = [f"head={head}", f"optimizer.lr={rate}"]
            about = {
                "purpose": "search",
                "trial": place,
                "config_hash": f"c{place}",
                "sweep": sweep,
            }
            more = {"head": head, "set": {"optimizer.lr": rate}, "overrides": asked}
            home.write(f"{sweep}{place}", monitor=monitor, **about, **more)

        for place, value in enumerate((1.0, 2.0, 5.0, 6.0)):
            searched("one", place, (0.1, 0.2)[place % 2], value, ("tanh", "sine")[place // 2])
        for place in range(10):
            searched("ten", place, 0.1 + 0.01 * place, 10.0 * (place // 2), "tanh")
        html = page(load_boards(home.path))
        one, ten = (dict(board["weights"]) for board in charts_of(html))
        assert one == {"head": pytest.approx(1 - 0.5 / (17 / 3), rel=1e-4), "optimizer.lr": 0}
        assert ten == {"optimizer.lr": 1}
        assert re.findall(r"<li>([\w.]+) <b>(\d+ %)</b><meter", html) == [
            ("head", "91 %"), ("optimizer.lr", "0 %"), ("optimizer.lr", "100 %"),
        ]  # fmt: skip

    def test_one_setting_has_no_line(self, home) -> None:
        _, html, _ = self.two(home, (5.0, 1.0))
        assert "Mean and hard examples" not in html

    def test_where_lower_is_better_the_hard_examples_are_the_high_ones(self, home) -> None:
        for head, hard in (("a", 0.9), ("b", 0.5)):
            metrics = {"test/equal_error_rate": 0.2, "test/equal_error_rate_q95": hard}
            home.write(head, head=head, task="verification", metrics=metrics)
        (board,) = load_boards(home.path).boards
        assert [row.name for row in pareto_front(board)] == ["head=b"]


class TestCommand:
    def test_prints_exactly_one_json_document(self, full_home, capsys) -> None:
        code = leaderboard(None, home=full_home.path, as_json=True)
        printed = json.loads(capsys.readouterr().out)
        assert code == 0
        assert printed == as_json(load_boards(full_home.path))

    def test_html_writes_that_file_and_no_other(self, full_home, tmp_path: Path) -> None:
        for name in ("a.md", "a.json"):
            (tmp_path / name).write_text("mine")
        leaderboard("margins", home=full_home.path, out=tmp_path / "a.html")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json", "a.md"]
        assert (tmp_path / "a.md").read_text() == (tmp_path / "a.json").read_text() == "mine"
        assert "<!doctype html>" in (tmp_path / "a.html").read_text()

    def test_rows_print_the_run_that_validated_best(self, home, capsys) -> None:
        for seed, value in enumerate((1.0, 3.0, 2.0)):
            monitor = {"name": "val/x", "mode": "max", "value": value, "epoch": 1}
            home.write(f"run{seed}", seed=seed, metrics={SEPARATION: 1.0}, monitor=monitor)
        leaderboard(None, home=home.path)
        row = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("1 "))
        assert row.split()[-1] == "run1"
        assert as_json(load_boards(home.path))["boards"][0]["best"]["run_id"] == "run1"

    def test_prints_a_plain_table_into_a_pipe(self, full_home, tmp_path: Path, capsys) -> None:
        leaderboard("margins", home=full_home.path, out=tmp_path / "b.html")
        lines = capsys.readouterr().out.splitlines()
        row = next(line for line in lines if line.startswith("1–2"))
        assert row.split()[:3] == ["1–2", "loss.margin=2.0", "11.53"]
        assert any("Chance (trivial)" in line and "50.00" in line for line in lines)

    def test_a_sweeps_report_stands_in_its_folder(self, home) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        write_page(["bounded_heads"], home.path)
        folder = home.path / "sweeps" / "bounded_heads"
        assert sorted(p.name for p in folder.iterdir()) == [
            "report.html",
            "report.json",
            "report.md",
        ]

    @pytest.mark.parametrize("as_json", [False, True])
    def test_asking_writes_nothing(self, full_home, capsys, as_json) -> None:
        def state() -> dict[Path, tuple[int, int]]:
            return {
                path: (path.stat().st_mtime_ns, path.stat().st_size)
                for path in [full_home.path, *full_home.path.rglob("*")]
            }

        before = state()
        for board in (None, "margins"):
            assert leaderboard(board, home=full_home.path, as_json=as_json) == 0
        assert state() == before

    def test_a_sweeps_file_names_its_board(self, home) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        assert leaderboard("sweeps/bounded_heads.py", home=home.path) == 0

    def test_all_boards_stand_in_the_home(self, home, capsys) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        write_page([], home.path)
        assert (home.path / "leaderboard.html").exists()
        assert (home.path / "leaderboard.md").read_text().startswith("# Leaderboard\n")
        leaderboard(None, home=home.path)
        assert (
            f"page of the last sweep: {home.path / 'leaderboard.html'}" in capsys.readouterr().err
        )

    def test_a_home_that_is_not_there_is_not_made(self, tmp_path: Path, capsys) -> None:
        assert leaderboard(None, home=tmp_path / "runs") == 0
        assert "No runs yet" in capsys.readouterr().out
        assert not (tmp_path / "runs").exists()

    def test_skipped_records_are_named_beside_the_table(self, home, capsys) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        home.write("newer", format=3)
        leaderboard(None, home=home.path)
        assert "1 record is not used: newer (record format 3" in capsys.readouterr().err

    def test_hidden_single_runs_are_mentioned(self, home, capsys) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        home.write("b", sweep=None, purpose="single", metrics={SEPARATION: 1.0})
        leaderboard(None, home=home.path)
        assert "1 single run is not shown: `lightning-sep leaderboard single`" in (
            capsys.readouterr().err
        )

    def test_writing_twice_changes_no_byte(self, home, fillers) -> None:
        fillers["margins"](home)
        path = write_page(["margins"], home.path)
        before = [p.read_bytes() for p in sorted(path.parent.iterdir())]
        write_page(["margins"], home.path)
        assert [p.read_bytes() for p in sorted(path.parent.iterdir())] == before

    def test_several_sweeps_share_a_page_and_keep_their_reports(self, home, fillers) -> None:
        fillers["margins"](home)
        fillers["outputs"](home)
        path = write_page(["margins", "outputs"], home.path)
        assert path == home.path / "leaderboard.html"
        assert (home.path / "sweeps" / "outputs" / "report.html").exists()

    def test_the_page_of_the_last_sweep_is_named_where_there_is_one(
        self, home, capsys: pytest.CaptureFixture[str]
    ) -> None:
        home.write("a", metrics={SEPARATION: 1.0})
        assert leaderboard(None, home=home.path) == 0
        assert "page of the last sweep" not in capsys.readouterr().err
        (home.path / "leaderboard.html").write_text("")
        assert leaderboard(None, home=home.path) == 0
        assert f"page of the last sweep: {home.path}/leaderboard.html" in capsys.readouterr().err

    def test_a_sweep_without_any_record_gets_a_page_all_the_same(self, home) -> None:
        path = write_page(["begun"], home.path)
        assert path == home.path / "sweeps" / "begun" / "report.html"
        assert "No runs yet" in path.read_text()

    def test_each_board_has_one_summary_line(self, full_home) -> None:
        lines = [summary_line(one) for one in boards_of(["margins", "outputs"], full_home.path)]
        assert [line.split(":")[0] for line in lines] == ["margins", "outputs"]
        assert not any("\n" in line for line in lines)

    def test_rich_shows_settings_as_they_are(self, home) -> None:
        from rich.console import Console

        from lightning_sep.leaderboard.table import print_rich

        home.write("a", set={"net.levels": "[red]9"}, metrics={SEPARATION: 1.0}, config_hash="1")
        home.write("b", set={"net.levels": "8"}, metrics={SEPARATION: 2.0}, config_hash="2")
        console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        print_rich(load_boards(home.path), console)
        assert "net.levels=[red]9" in console.export_text()

    def test_what_loads_slowly_waits_until_it_is_needed(self) -> None:
        program = (
            "import sys; import lightning_sep.leaderboard.commands; "
            "print([n for n in ('torch', 'scipy', 'pandas') if n in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout.strip() == "[]"
