"""The page in a real browser without a network: what it shows, and what a reader can do with it.

Every number that is drawn is read back from where it was drawn: the forest plot from its paths, a
chart from the places of its shapes on its own axes, and compared with the records.
"""

import base64
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_sep.leaderboard.board import Board, load_boards
from lightning_sep.leaderboard.entries import entries_of
from lightning_sep.leaderboard.page import page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver here (Debian: chromium, chromium-driver)",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--mute-audio",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
    "--window-size=1440,1000",
)
SEPARATION = "test/si_sdr_improvement_db"
VALIDATION = "val/si_sdr_improvement_db"
# In the order of the page: groups first, then what tells more settings apart.
AXES = ("head", "optimizer.lr", "loss.weight", "reweighting.alpha", "net.levels", "task.order")
SETTINGS = (
    ("clip_at_eval", 0.003, 0.5, 0.0, 4, "any"),
    ("straight_through_clip", 0.001, 0.25, 0.3, 5, "fixed"),
    ("tanh", 0.0004, 1.5, 0.1, 6, "any"),
    ("sine", 0.0001, 2.25, 0.2, 4, "any"),
)
LEVELS = (9.4, 9.1, 8.0, -20.0)  # the last one collapsed
SEEDS, UNITS, EPOCHS = 3, 40, 12


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver listens on this machine only; a proxy of the environment must not come between.
    kept = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "localhost,127.0.0.1"
    try:
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        driver.set_script_timeout(20)
        yield driver
        driver.quit()
    finally:
        if kept is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = kept


def overrides(setting: tuple) -> list[str]:
    return [f"{name}={value}" for name, value in zip(AXES, setting, strict=True)]


def fill_axes(home) -> None:
    """Sweep "axes": four settings along six axes on three seeds, and a search of ten trials."""
    generator = np.random.default_rng(3)
    difficulty = generator.normal(0, 3, UNITS)
    for place, (setting, level) in enumerate(zip(SETTINGS, LEVELS, strict=True)):
        for seed in range(SEEDS):
            values = level + difficulty + generator.normal(0, 0.8, UNITS) + 0.2 * seed
            folder = home.separation(
                f"f{place}{seed:010x}",
                values,
                sweep="axes",
                head=setting[0],
                seed=1000 + seed,
                set={"optimizer.lr": setting[1], "net.levels": setting[4]},
                overrides=[*overrides(setting), f"seed={1000 + seed}"],
                monitor={"name": VALIDATION, "mode": "max", "value": level - seed, "epoch": 9},
                started=f"2026-03-01T1{place}:{10 * seed:02d}:00+00:00",
                finished=f"2026-03-01T1{place}:{10 * seed + 8:02d}:00+00:00",
            )
            lines = [
                {"epoch": epoch, VALIDATION: level * (1 - 0.7**epoch) + seed, "train/loss": -epoch}
                for epoch in range(EPOCHS - (2 if place == 3 and seed == 1 else 0))
            ]
            (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
            if seed == 0:
                sounds(folder, place, values)
    for trial in range(10):
        rate, levels = 0.0001 * 2**trial, 4 + trial % 3
        setting = (SETTINGS[trial % 4][0], rate, *SETTINGS[0][2:4], levels, "any")
        state = {4: "pruned", 6: "failed"}.get(trial, "finished")
        value = {"name": VALIDATION, "mode": "max", "value": 5 + (trial * 7) % 10, "epoch": 3}
        home.write(
            f"5ea4c{trial:07x}",
            sweep="axes",
            head=setting[0],
            purpose="search",
            state=state,
            trial=trial,
            error="diverged" if state == "failed" else None,
            config_hash=f"search-{trial}",
            set={"optimizer.lr": setting[1], "net.levels": setting[4]},
            overrides=overrides(setting),
            monitor={} if state == "failed" else value,
            started=f"2026-03-01T08:{trial:02d}:00+00:00",
            finished=f"2026-03-01T08:{trial + 1:02d}:00+00:00",
        )
    (home.path / "sweeps" / "axes").mkdir(parents=True)
    asks = {"final_seeds": SEEDS, "question": "Which of six axes matters?"}
    (home.path / "sweeps" / "axes" / "sweep.json").write_text(json.dumps({"asks": asks}))


def sounds(folder: Path, place: int, values: np.ndarray) -> None:
    """Two seconds each of a mixture, a target and an estimate, of five examples."""
    import soundfile

    (folder / "audio").mkdir()
    time_s = np.arange(16000) / 8000
    for example in range(5):
        shared = np.sin(2 * np.pi * (200 + example) * time_s)
        own = np.sin(2 * np.pi * (300 + 10 * place + example) * time_s)
        for name, samples in (
            ("mixture.flac", shared),
            ("target-1.flac", 0.5 * shared),
            ("estimate-1.mp3", own),
        ):
            soundfile.write(folder / "audio" / f"{example}-{name}", 0.3 * samples, 8000)


@pytest.fixture(scope="module")
def axes_home(tmp_path_factory: pytest.TempPathFactory, new_home):
    home = new_home(tmp_path_factory.mktemp("axes") / "runs")
    fill_axes(home)
    return home


@pytest.fixture(scope="module")
def board(axes_home) -> Board:
    (found,) = load_boards(axes_home.path).boards
    return found


@pytest.fixture(scope="module")
def written(full_home, axes_home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("page")
    found = {}
    for name, home in (("full", full_home), ("axes", axes_home)):
        found[name] = folder / f"{name}.html"
        found[name].write_text(page(load_boards(home.path)), encoding="utf-8")
    return found


def show(browser, path: Path, width: int = 1440, scheme: str = "light") -> None:
    """Open a page at a width; its charts are drawn when they come into view, so all of them are."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get_log("browser")
    browser.get(path.as_uri())
    browser.execute_async_script(
        "const done = arguments[0];"
        "for (const one of document.querySelectorAll('details')) one.open = true;"
        "const cards = [...document.querySelectorAll('[data-chart]')];"
        "for (const card of cards) card.board.draw(card.board.charts.get(card.dataset.chart));"
        "setTimeout(done, 50);"
    )


@pytest.fixture
def opened(browser, written):
    """The boards of the shared home."""
    show(browser, written["full"])
    return browser


@pytest.fixture
def axes(browser, written):
    """The board with six axes, for what changes it."""
    show(browser, written["axes"])
    return browser


@pytest.fixture
def seen(browser, written):
    """The same, for what only looks: opened anew only after something else."""
    if not browser.execute_script("return window.untouched"):
        show(browser, written["axes"])
        browser.execute_script("window.untouched = true")
    return browser


LIBRARY = (Path(__file__).parent / "in_page.js").read_text()


def read(browser, code: str, *arguments: Any) -> Any:
    return browser.execute_script(LIBRARY + code, *arguments)


def drawn(browser, chart: str, series: int) -> list[list[float]]:
    return read(browser, "return drawn(arguments[0], arguments[1])", chart, series)


def first_board(browser):
    return browser.find_element(By.ID, "board-0")


def ranked(browser) -> list[list[str]]:
    """Axis cells of the first board's visible ranked rows, from the top."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#settings-0 tr.ranked')].filter((r) => !r.hidden)"
        ".map((r) => [...r.querySelectorAll('.name')].map((c) => c.textContent))"
    )


def heads(browser) -> list[str]:
    return [one[0] for one in ranked(browser)]


def rates(browser) -> list[float]:
    """The trials' learning rates, from the top."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#trials-0 tbody tr')]"
        ".map((r) => +r.querySelectorAll('.name')[1].textContent)"
    )


def head(browser, words: str):
    path = f".//table[@id='settings-0']//th[button[starts-with(., '{words}')]]"
    return first_board(browser).find_element(By.XPATH, path)


def frame(browser) -> None:
    """Wait for what a change makes the page draw."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def press(browser, button) -> None:
    into = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(into, button)
    button.click()


def used(browser) -> None:
    """Sort by an axis, filter by a range, hide a curve, compare two rows, brush, switch sounds."""
    by = first_board(browser).find_element(By.CSS_SELECTOR, ".tools .by")
    option = by.find_element(By.XPATH, "./option[.='optimizer.lr']")
    if by.is_displayed():
        option.click()
    else:
        press(browser, head(browser, "optimizer.").find_element(By.TAG_NAME, "button"))
    assert [float(one[1]) for one in ranked(browser)] == [0.0001, 0.0004, 0.001, 0.003]
    low = browser.find_element(By.CSS_SELECTOR, "[aria-label='optimizer.lr from']")
    low.send_keys("0.0002")
    assert heads(browser) == ["tanh", "straight_through_clip", "clip_at_eval"]
    frame(browser)
    assert len(read(browser, "return names('curves')")) == 6
    keys = "[data-chart=curves] .keys button"
    press(browser, browser.find_elements(By.CSS_SELECTOR, keys)[1])
    assert len(read(browser, "return names('curves')")) == 4
    press(browser, browser.find_elements(By.CSS_SELECTOR, keys)[1])
    press(browser, first_board(browser).find_element(By.CSS_SELECTOR, ".clear"))
    boxes = browser.find_elements(By.CSS_SELECTOR, "#settings-0 tr.ranked .pick input")
    for box in boxes[:2]:  # in the order of the table, which is sorted by the rate
        press(browser, box)
    frame(browser)
    shown = read(browser, "return names('seeds')")
    assert [one.split()[1] for one in shown] == ["tanh", "sine"]
    press(browser, first_board(browser).find_element(By.CSS_SELECTOR, ".clear"))
    frame(browser)
    assert brushed(browser) == "5 of 9 shown"
    switched(browser)


def brushed(browser) -> str:
    """Drag along the axis of the score, from beyond its better end to 9.5: what is left."""
    card = browser.find_element(By.CSS_SELECTOR, "[data-chart=parallel]")
    plot = card.find_element(By.CSS_SELECTOR, ".plot")
    into = "arguments[0].scrollIntoView({block: 'end', behavior: 'instant'})"
    browser.execute_script(into, plot)
    (x, y), (to_x, to_y) = read(
        browser,
        "const at = chart('parallel'), space = at.getModel().getSeriesByIndex(0).coordinateSystem;"
        "return [14.5, 9.5].map((score) => space.dataToPoint(score, space.dimensions[6]))",
    )
    middle_x, middle_y = plot.size["width"] / 2, plot.size["height"] / 2
    chain = ActionChains(browser)
    chain.move_to_element_with_offset(plot, round(x - middle_x), round(y - middle_y))
    chain.click_and_hold().move_by_offset(round(to_x - x), round(to_y - y)).release().perform()
    return card.find_element(By.CSS_SELECTOR, ".tally").text


def switched(browser) -> None:
    """Play the sound of a setting, then that of another one, which goes on from the same place."""
    grid = browser.find_element(By.CSS_SELECTOR, ".example")
    first, second = grid.find_elements(By.CSS_SELECTOR, "tr[data-s] button.play")[:2]
    press(browser, first)
    reached = browser.execute_async_script(
        "const done = arguments[0], audio = document.querySelector('tr[data-s] audio');"
        "const look = () => audio.currentTime > .3 ? done(audio.currentTime)"
        " : setTimeout(look, 20); look()"
    )
    press(browser, second)
    times = browser.execute_async_script(
        "const done = arguments[0], [a, b] = document.querySelectorAll('tr[data-s] audio');"
        "const look = () => b.paused ? setTimeout(look, 20) : done([a.paused, b.currentTime]);"
        "look()"
    )
    assert times[0] is True
    assert times[1] >= reached
    pressed = [one.get_attribute("aria-pressed") for one in (first, second)]
    assert pressed == ["false", "true"]
    press(browser, second)


class TestPage:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 768, 1440])
    def test_all_is_in_reach_and_can_be_read(self, browser, written, width, scheme) -> None:
        show(browser, written["axes"], width, scheme)
        found = read(browser, "return legible()")
        assert found["wide"] == []
        assert found["cut"] == []
        assert found["small"] == []
        assert found["page"] <= width
        said = " ".join(found["labels"])
        for name in (*AXES, "si_sdr_improvement_db"):  # each axis, and the score's
            assert name[-10:] in said
        used(browser)
        found = read(browser, "return legible()")
        assert found["wide"] == found["cut"] == found["small"] == []
        assert browser.get_log("browser") == []

    def test_settings_that_score_alike_leave_no_chart_empty(
        self, browser, new_home, tmp_path: Path
    ) -> None:
        home = new_home(tmp_path / "runs")
        for head in ("tanh", "sine"):
            for seed in range(3):
                more = {"task": "autoregression", "sweep": "alike", "head": head, "seed": seed}
                home.write(f"{head}{seed}", metrics={"test/r2": 1.0}, **more)
        (tmp_path / "a.html").write_text(page(load_boards(home.path)), encoding="utf-8")
        show(browser, tmp_path / "a.html", 768)
        assert drawn(browser, "differences", 1) == [[0, 0], [0, 1]]
        extent = (
            "return chart('differences').getModel().getComponent('xAxis').axis.scale.getExtent()"
        )
        assert read(browser, extent) == [-1, 1]
        labels = browser.find_elements(By.CSS_SELECTOR, "th.plot svg text")
        assert [one.get_attribute("textContent") for one in labels][-1] == "1.05"
        assert read(browser, "return legible()")["cut"] == []  # the ends of the scale neither

    def test_the_console_stays_silent(self, opened) -> None:
        assert opened.get_log("browser") == []

    def test_charts_follow_the_scheme_and_the_width(self, axes) -> None:
        look = (
            "const at = chart('seeds'), ink = getComputedStyle(document.documentElement)"
            ".getPropertyValue('--ink').trim();"
            "return [at.getOption().textStyle.color === ink, at.getWidth() <= innerWidth, ink]"
        )
        bright = read(axes, look)
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        axes.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        frame(axes)
        screen = {"width": 500, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        axes.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        axes.execute_async_script("setTimeout(arguments[0], 200)")
        dark = read(axes, look)
        assert bright[:2] == dark[:2] == [True, True]
        assert bright[2] != dark[2]

    def test_the_policy_refuses_what_others_slip_in(self, opened) -> None:
        opened.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.slipped = 1';"
            "document.body.append(s)"
        )
        assert opened.execute_script("return window.slipped") is None
        log = opened.get_log("browser")
        assert any("Content Security Policy" in entry["message"] for entry in log)

    def test_question_shared_settings_and_count_stand_on_top(self, seen) -> None:
        text = first_board(seen).text
        assert "Which of six axes matters?" in text
        assert "14 settings tried" in text
        shared = first_board(seen).find_element(By.CSS_SELECTOR, ".shared summary").text
        assert "net=wave_unet" in shared
        assert "head" not in shared

    def test_every_row_has_a_link_that_finds_it(self, axes) -> None:
        link = axes.find_elements(By.CSS_SELECTOR, "#settings-0 a.anchor")[2]
        row = link.get_attribute("href").partition("#")[2]
        press(axes, link)
        assert axes.execute_script("return document.querySelector(':target').id") == row
        assert row == "axes-config-tanh"

    def test_the_command_of_a_row_is_copied(self, axes, board) -> None:
        grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        axes.execute_cdp_cmd("Browser.grantPermissions", grant)
        buttons = axes.find_elements(By.CSS_SELECTOR, "#settings-0 tr.ranked button.copy")
        for place, button in enumerate(buttons):
            if place == 3:  # a page from a disk may be refused it: the text is selected and copied
                axes.execute_script(
                    "navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))"
                )
            press(axes, button)
            said = axes.execute_async_script(
                "const [button, done] = arguments; const look = () => "
                "button.textContent === 'Copy' ? setTimeout(look, 20) : done(button.textContent);"
                "look()",
                button,
            )
            assert said == "Copied"
            copied = axes.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
            assert copied == board.rows[place].scores[0].command


EVIL = "</script></style><img src=x onerror=alert(1)>\\22 {}\"'"


def test_no_text_of_a_record_breaks_out(browser, new_home, tmp_path: Path) -> None:
    """Names of settings, values, metrics and seeds' runs, in tables, charts, menus and hints."""
    home = new_home(tmp_path / "runs")
    for place in range(2):
        for seed in range(2):
            home.separation(
                f"f{place}{seed:010x}",
                np.linspace(place, 3, 9) + seed,
                sweep=EVIL,
                config_hash=f"{EVIL}{place}",
                seed=seed,
                overrides=[f"{EVIL}={EVIL}{place}"],
                monitor={"name": EVIL, "mode": "max", "value": 1.0, "epoch": 1},
                history=[0.1, 0.2],
            )
        home.write(
            f"5ea4c{place:07x}",
            sweep=EVIL,
            purpose="search",
            trial=place,
            config_hash=f"search{place}",
            overrides=[f"{EVIL}={EVIL}{place + 2}"],
            monitor={"name": EVIL, "mode": "max", "value": float(place), "epoch": 1},
        )
    path = tmp_path / "evil.html"
    path.write_text(page(load_boards(home.path)), encoding="utf-8")
    show(browser, path)
    drawn_charts = browser.execute_script("return document.querySelectorAll('.plot svg').length")
    assert drawn_charts > 5
    read(browser, "chart('search').dispatchAction({type: 'showTip', seriesIndex: 1, dataIndex: 0})")
    assert EVIL in browser.execute_script("return document.querySelector('.tip')?.textContent")
    found = browser.execute_script(
        "return [document.querySelectorAll('img, [onerror]').length, document.scripts.length]"
    )
    assert found == [0, 4]
    assert browser.get_log("browser") == []


class TestTable:
    def test_a_click_sorts_by_an_axis_and_says_so(self, opened) -> None:
        name = head(opened, "head")
        button = name.find_element(By.TAG_NAME, "button")
        press(opened, button)
        assert name.get_attribute("aria-sort") == "ascending"
        assert heads(opened) == sorted(heads(opened))
        press(opened, button)
        assert name.get_attribute("aria-sort") == "descending"
        assert heads(opened) == sorted(heads(opened), reverse=True)
        assert head(opened, "Rank").get_attribute("aria-sort") is None

    def test_the_keyboard_sorts_by_number_too(self, opened) -> None:
        rate = ".//table[@id='trials-0']//th[button[starts-with(., 'optimizer.')]]/button"
        button = first_board(opened).find_element(By.XPATH, rate)
        button.send_keys(Keys.ENTER)
        assert rates(opened) == sorted(rates(opened))
        button.send_keys(Keys.SPACE)
        assert rates(opened) == sorted(rates(opened), reverse=True)
        assert len(set(rates(opened))) > 20

    def test_a_button_turns_the_order_round_and_ranges_hold_their_ends(
        self, browser, written
    ) -> None:
        show(browser, written["axes"], 360)
        by = first_board(browser).find_element(By.CSS_SELECTOR, ".tools .by")
        by.find_element(By.XPATH, "./option[.='optimizer.lr']").click()
        press(browser, first_board(browser).find_element(By.CSS_SELECTOR, ".tools .order"))
        assert [float(one[1]) for one in ranked(browser)] == [0.003, 0.001, 0.0004, 0.0001]
        low, high = (
            browser.find_element(By.CSS_SELECTOR, f"[aria-label='optimizer.lr {word}']")
            for word in ("from", "to")
        )
        assert [float(one.get_attribute("placeholder")) for one in (low, high)] == [0.0001, 0.0512]
        low.send_keys("0.0004")
        high.send_keys("0.001")
        assert heads(browser) == ["straight_through_clip", "tanh"]
        by.find_element(By.XPATH, "./option[starts-with(., 'SI-SDR')]").click()  # the best first
        assert heads(browser) == ["straight_through_clip", "tanh"]
        press(browser, first_board(browser).find_element(By.CSS_SELECTOR, ".tools .order"))
        assert heads(browser) == ["tanh", "straight_through_clip"]

    def test_what_has_no_score_stands_last_either_way(self, axes) -> None:
        path = ".//table[@id='trials-0']//button[starts-with(., 'val/')]"
        button = first_board(axes).find_element(By.XPATH, path)
        for _ in range(2):
            button.send_keys(Keys.ENTER)
            last = axes.find_elements(By.CSS_SELECTOR, "#trials-0 tbody tr:last-child td")[1]
            assert last.text == "6"  # which has failed

    def test_a_ticked_trial_is_a_thick_line(self, axes) -> None:
        press(axes, axes.find_elements(By.CSS_SELECTOR, "#trials-0 .pick input")[2])
        frame(axes)
        data = read(axes, "return chart('parallel').getOption().series[0].data")
        assert [one["place"] for one in data if one["lineStyle"]["width"] > 3] == [2]

    def test_words_and_run_ids_filter(self, axes) -> None:
        field = first_board(axes).find_element(By.CSS_SELECTOR, "input[type=search]")
        field.send_keys("clip eval")
        assert heads(axes) == ["clip_at_eval"]
        field.clear()
        field.send_keys(f"f2{0:010x}")
        assert heads(axes) == ["tanh"]
        said = first_board(axes).find_element(By.CSS_SELECTOR, ".tools .shown").text
        assert said == "1 of 14 settings"

    def test_a_range_of_an_axis_filters_table_and_charts(self, axes) -> None:
        low = axes.find_element(By.CSS_SELECTOR, "[aria-label='optimizer.lr from']")
        low.send_keys("0.0005")
        assert heads(axes) == ["clip_at_eval", "straight_through_clip"]
        frame(axes)
        assert len(read(axes, "return names('seeds')")) == 2
        axes.find_element(By.CSS_SELECTOR, "[aria-label='optimizer.lr to']").send_keys("0.001")
        assert heads(axes) == ["straight_through_clip"]
        press(axes, first_board(axes).find_element(By.CSS_SELECTOR, ".clear"))
        assert len(ranked(axes)) == 4
        score = "#board-0 [aria-label^='SI-SDR'][aria-label$=' to']"
        axes.find_element(By.CSS_SELECTOR, score).send_keys("100")
        said = first_board(axes).find_element(By.CSS_SELECTOR, ".tools .shown").text
        assert said == "4 of 14 settings"  # what has no score lies in no range

    def test_a_choice_of_an_axis_filters(self, axes) -> None:
        box = axes.find_element(By.CSS_SELECTOR, "#board-0 .ranges input[value=any]")
        press(axes, box)
        assert heads(axes) == ["straight_through_clip"]

    def test_a_range_of_the_trials_narrows_what_the_search_draws(self, axes) -> None:
        tools = axes.find_element(By.CSS_SELECTOR, ".tools[data-for=trials-0]")
        before = read(axes, "return chart('parallel').getOption().series[0].data.length")
        low = tools.find_element(By.CSS_SELECTOR, "[aria-label='optimizer.lr from']")
        low.send_keys("0.0015")
        frame(axes)
        kept = [one for one in range(10) if 0.0001 * 2**one >= 0.0015 and one != 6]
        assert before == 9
        found = read(axes, "return chart('parallel').getOption().series[0].data.length")
        assert found == len(kept)
        said = tools.find_element(By.CSS_SELECTOR, ".shown").text
        assert said == "6 of 10 trials"

    def test_two_rows_are_compared(self, axes, board) -> None:
        boxes = axes.find_elements(By.CSS_SELECTOR, "#settings-0 .pick input")
        press(axes, boxes[1])
        press(axes, boxes[2])
        frame(axes)
        assert len(read(axes, "return names('seeds')")) == 2
        assert len(drawn(axes, "differences", 1)) == 2
        table = axes.execute_script(
            "return [...document.querySelectorAll('table.differ tr')]"
            ".map((r) => [...r.cells].map((c) => c.textContent))"
        )
        found = {name: values for name, *values in table}
        assert found["setting"] == ["2.", "3."]
        assert found["head"] == ["straight_through_clip", "tanh"]
        assert found["optimizer.lr"] == ["0.001", "0.0004"]
        assert found["net.levels"] == ["5", "6"]
        assert "optimizer" not in found  # which both share
        said = first_board(axes).find_element(By.CSS_SELECTOR, ".chosen").text
        assert said.startswith("The charts show the 2 ticked rows")
        press(axes, first_board(axes).find_element(By.CSS_SELECTOR, ".clear"))
        frame(axes)
        assert len(read(axes, "return names('seeds')")) == 4
        press(axes, boxes[3])
        frame(axes)
        scores = [score.value for score in board.rows[3].scores]
        assert [y for _, y in drawn(axes, "seeds", 0)] == pytest.approx(scores, rel=1e-3)
        assert read(axes, "return chart('seeds').getOption().yAxis[0].max") < 0  # alone, its own

    def test_the_trials_stand_in_a_table_of_their_own(self, seen) -> None:
        rows = seen.execute_script(
            "return [...document.querySelectorAll('#trials-0 tbody tr')]"
            ".map((r) => [...r.cells].map((c) => c.textContent.trim()))"
        )
        assert len(rows) == 10
        assert [row[1] for row in rows] == [str(n) for n in range(10)]
        assert rows[4][9].split()[1] == "pruned"
        assert rows[6][8] == "–"
        assert rows[6][9] == "✕ faileddiverged"
        for trial, row in enumerate(rows):
            assert row[2] == SETTINGS[trial % 4][0]
            assert float(row[3]) == pytest.approx(0.0001 * 2**trial)
            if trial != 6:
                assert row[8] == f"{5 + (trial * 7) % 10:.2f} dB"


class TestForest:
    def test_the_scale_is_not_stretched_by_what_collapsed(self, seen) -> None:
        scale = self.scale(seen)
        assert scale(0) > 0  # the collapsed row is at −20
        widths = [row.interval.high - row.interval.low for row in self.rows]
        assert scale(1) - scale(0) < 4 * max(widths)

    def test_means_intervals_and_dots_stand_where_the_records_say(self, seen, board) -> None:
        scale, pictures = self.scale(seen), self.pictures(seen)
        assert len(pictures) == 4
        for row, picture in zip(board.rows[:3], pictures, strict=False):
            step = scale(0.3 / 216) - scale(0)  # coordinates are rounded to tenths of a pixel
            mean = float(picture["mean"].split("M")[1].split(" ")[0])
            assert scale(self.share(mean)) == pytest.approx(row.interval.mean, abs=step)
            start, _, end = picture["reach"].split("M")[1].partition("H")
            low, high = float(start.split(" ")[0]), float(end)
            assert scale(self.share(low)) == pytest.approx(row.interval.low, abs=step)
            assert scale(self.share(high)) == pytest.approx(row.interval.high, abs=step)
            start, _, end = picture["seeds"].split("M")[1].partition("H")
            low, high = float(start.split(" ")[0]), float(end)
            assert scale(self.share(low)) == pytest.approx(row.seed_interval.low, abs=step)
            assert scale(self.share(high)) == pytest.approx(row.seed_interval.high, abs=step)
            dots = [float(one.split(" ")[0]) for one in picture["dots"].split("M")[1:]]
            values = [score.value for score in row.scores]
            assert [scale(self.share(x)) for x in dots] == pytest.approx(values, abs=step)
        collapsed = pictures[3]
        assert set(collapsed) == {"arrow"}  # and no dot at a place that is not its own

    def test_shown_numbers_are_those_of_the_row(self, seen, board) -> None:
        cells = seen.execute_script(
            "return [...document.querySelectorAll('#settings-0 tr.ranked')].map((r) => "
            "[r.querySelector('.score').textContent, r.querySelector('.difference').textContent])"
        )
        for row, (score, difference) in zip(board.rows, cells, strict=True):
            one = row.interval
            text = f"{one.mean:.2f}{one.low:.2f} to {one.high:.2f}".replace("-", "−")
            assert score == text
            if row is not board.best:
                one = row.standing.difference
                text = f"{one.mean:+.2f} {one.low:+.2f} to {one.high:+.2f}".replace("-", "−")
                assert difference == text

    def test_bold_percentiles_are_the_best_of_their_column(self, seen, board) -> None:
        table = seen.execute_script(
            "return [...document.querySelectorAll('table.percentiles tbody tr')].map((r) => "
            "[...r.querySelectorAll('td')].map((c) => "
            "[c.firstChild.textContent, !!c.querySelector('b')]))"
        )
        for column, q in enumerate((1, 5, 10, 25, 50, 75, 90, 95, 99)):
            shown = [row.percentiles[q].mean for row in board.rows]
            best = f"{max(shown):.2f}"
            for (text, bold), value in zip((row[column] for row in table), shown, strict=True):
                assert text == f"{value:.2f}".replace("-", "−")
                assert bold == (f"{value:.2f}" == best)

    @pytest.fixture(autouse=True)
    def _rows(self, board) -> None:
        self.rows = board.rows[:3]

    def pictures(self, browser) -> list[dict[str, str]]:
        return browser.execute_script(
            "return [...document.querySelectorAll('#settings-0 tr.ranked td.plot svg')].map((s) => "
            "Object.fromEntries([...s.querySelectorAll('path')].map((p) => "
            "[p.getAttribute('class'), p.getAttribute('d')])))"
        )

    def scale(self, browser):
        """What a share of the scale's width stands for, from two ticks as they are drawn."""
        ticks = browser.execute_script(
            "return [...document.querySelectorAll('#settings-0 thead svg text')]"
            ".map((t) => [t.textContent, +t.getAttribute('x')])"
        )
        (first, x1), *_, (last, x2) = [(float(w.replace("−", "-")), x) for w, x in ticks]
        return lambda share: first + (12 + share * 216 - x1) * (last - first) / (x2 - x1)

    @staticmethod
    def share(x: float) -> float:
        return (x - 12) / 216


class TestCharts:
    def test_seed_by_seed(self, seen, board) -> None:
        names = read(seen, "return names('seeds')")
        assert len(names) == 4
        for place, row in enumerate(board.rows[:3]):
            found = drawn(seen, "seeds", place)
            assert [x for x, _ in found] == [0, 1, 2]
            values = [score.value for score in row.scores]
            assert [y for _, y in found] == pytest.approx(values, rel=1e-3)

    def test_differences_and_their_intervals(self, seen, board) -> None:
        dots = drawn(seen, "differences", 1)
        assert [y for _, y in dots] == [0, 1, 2, 3]
        lines = read(
            seen,
            "const at = chart('differences'), data = at.getModel().getSeriesByIndex(0).getData();"
            "return data.mapArray((i) => { const s = data.getItemGraphicEl(i).childAt(0).shape;"
            "return [s.x1, s.x2].map((x) => at.convertFromPixel({gridIndex: 0}, [x, s.y1])[0]) })",
        )
        others = [row for row in board.rows if row is not board.best]
        for row, (x, _), (low, high) in zip(others[:2], dots[1:3], lines[-3:-1], strict=True):
            one = row.standing.difference
            assert x == pytest.approx(one.mean, abs=1e-3)
            assert [low, high] == pytest.approx([one.low, one.high], abs=1e-3)
        assert dots[0][0] == pytest.approx(0, abs=1e-6)
        collapsed = read(seen, "return chart('differences').getOption().series[1].data[3]")
        assert others[2].standing.difference.mean < -25
        assert -10 < dots[3][0] < dots[2][0]  # at the edge of a scale that it does not stretch
        assert collapsed["symbol"] == "triangle"
        data = read(seen, "return chart('differences').getOption().series[1].data")
        colours = [one["itemStyle"]["color"] for one in data]
        assert colours[1] != colours[3]  # which cannot be the best
        assert board.rows[1].may_be_best
        assert collapsed["said"][1].startswith(f"−{-others[2].standing.difference.mean:.2f}")

    def test_curves_are_the_mean_over_seeds_in_a_band(self, seen) -> None:
        names = read(seen, "return names('curves')")
        assert [one.split()[0] for one in names] == ["custom", "line"] * 4
        for place in range(3):
            curve = [LEVELS[place] * (1 - 0.7**epoch) + 1 for epoch in range(EPOCHS)]
            found = drawn(seen, "curves", 2 * place + 1)
            assert [x for x, _ in found] == pytest.approx(list(range(EPOCHS)), abs=1e-6)
            assert [y for _, y in found] == pytest.approx(curve, abs=0.02)
            band = read(
                seen,
                "const at = chart('curves'), data = at.getModel().getSeriesByIndex(arguments[0])"
                ".getData(); return data.getItemGraphicEl(0).shape.points"
                ".map((p) => at.convertFromPixel({gridIndex: 0}, p))",
                2 * place,
            )
            upper = [value + 1 for value in curve]
            lower = [value - 1 for value in curve]
            assert [y for _, y in band] == pytest.approx(upper + lower[::-1], abs=0.02)
        assert len(drawn(seen, "curves", 7)) == EPOCHS - 2  # as far as all its seeds go

    def test_any_logged_metric_and_every_seed(self, axes) -> None:
        card = axes.find_element(By.CSS_SELECTOR, "[data-chart=curves]")
        options = [one.text for one in card.find_elements(By.CSS_SELECTOR, ".metric option")]
        assert options == [f"{VALIDATION} (dB)", "train/loss"]
        card.find_elements(By.CSS_SELECTOR, ".metric option")[1].click()
        press(axes, card.find_element(By.CSS_SELECTOR, ".every"))
        assert len(read(axes, "return names('curves')")) == 4 * SEEDS
        assert [y for _, y in drawn(axes, "curves", 5)] == pytest.approx(
            [-epoch for epoch in range(EPOCHS)], abs=0.02
        )

    def test_a_curve_is_hidden_and_comes_back(self, axes) -> None:
        def key():
            return axes.find_elements(By.CSS_SELECTOR, "[data-chart=curves] .keys button")[1]

        press(axes, key())
        assert key().get_attribute("aria-pressed") == "false"
        shown = read(axes, "return names('curves')")
        assert len(shown) == 6
        assert not any("straight_through_clip" in one for one in shown)
        press(axes, key())
        assert len(read(axes, "return names('curves')")) == 8

    def test_curves_zoom_by_buttons(self, axes) -> None:
        card = axes.find_element(By.CSS_SELECTOR, "[data-chart=curves]")
        span = "const z = chart('curves').getOption().dataZoom[0]; return z.end - z.start"
        press(axes, card.find_element(By.CSS_SELECTOR, ".in"))
        assert read(axes, span) == pytest.approx(60)
        press(axes, card.find_element(By.CSS_SELECTOR, ".keys button"))
        assert read(axes, span) == pytest.approx(60)
        press(axes, card.find_element(By.CSS_SELECTOR, ".whole"))
        assert read(axes, span) == pytest.approx(100)

    def test_mean_against_hard_examples(self, seen, board) -> None:
        assert read(seen, "return names('pareto')") == [
            "line front",
            "custom intervals",
            "scatter settings",
        ]
        for row, (x, y) in zip(board.rows[:3], drawn(seen, "pareto", 2), strict=False):
            assert x == pytest.approx(row.interval.mean, abs=0.01)
            assert y == pytest.approx(row.percentiles[5].mean, abs=0.01)

    def test_the_intervals_of_mean_and_hard_examples_cross_at_the_point(self, seen, board) -> None:
        crosses = read(seen, "return chart('pareto').getOption().series[1].data")
        for row, cross in zip(board.rows, crosses, strict=True):
            mean, hard = row.interval, row.percentiles[5]
            ends = [mean.mean, hard.mean, mean.low, mean.high, hard.low, hard.high]
            assert cross == pytest.approx(ends, rel=1e-4)
        front = read(seen, "return chart('pareto').getOption().series[0].data")
        expected = sorted([row.interval.mean, row.percentiles[5].mean] for row in board.rows[:1])
        assert [front[-1]] == [pytest.approx(expected[0], rel=1e-4)]

    def test_no_chart_is_stretched_by_what_collapsed(self, seen, board) -> None:
        ends = read(
            seen,
            "return Object.fromEntries(['seeds', 'curves', 'pareto'].map((name) => { const { xAxis,"
            " yAxis } = chart(name).getOption(); return [name, [xAxis[0], yAxis[0]].map((one) => "
            "[one.min, one.max])] }))",
        )
        means = [score.value for row in board.rows[:3] for score in row.scores]
        low, high = ends["seeds"][1]
        assert min(means) - 1 < low < min(means) <= max(means) < high < max(means) + 1
        low, high = ends["curves"][1]  # from 0 to the best level, a seed more and two
        assert -6 < low <= 0 < LEVELS[0] + 2 < high < 20
        (left, right), (low, high) = ends["pareto"]
        near = [(row.interval.mean, row.percentiles[5].mean) for row in board.rows[:3]]
        assert 0 < left < min(x for x, _ in near) <= max(x for x, _ in near) < right < 15
        far = board.rows[3].percentiles[5].mean
        assert far + 15 < low < min(y for _, y in near) <= max(y for _, y in near) < high < 15
        points = read(seen, "return chart('pareto').getOption().series[2].data")
        assert points[3]["value"] == [left, low]
        assert [points[3]["symbol"], points[3]["symbolRotate"]] == ["triangle", 90]
        assert not any("symbol" in one for one in points[:3])
        notes = read(
            seen,
            "return Object.fromEntries([...document.querySelectorAll('[data-chart]')].map((one) => "
            "[one.dataset.chart, one.querySelector('.beyond').checkVisibility() ? "
            "one.querySelector('.beyond').textContent : '']))",
        )
        name = f"4. {entries_of(board)[3].short}"
        expected = dict.fromkeys(
            ("seeds", "curves", "pareto", "differences"),
            f"Beyond the scale, at least in part: {name}.",
        )
        assert {chart: said for chart, said in notes.items() if said} == expected

    def test_a_hint_says_what_the_record_of_its_point_says(self, seen, board, axes_home) -> None:
        def hints(chart: str, series: int) -> list[list[str]]:
            data = read(seen, f"return chart('{chart}').getOption().series[{series}].data")
            return [one["said"] for one in data]

        names = [f"{at + 1}. {one.short}" for at, one in enumerate(entries_of(board))]
        for at, row in enumerate(board.rows):
            assert hints("seeds", at) == [
                [
                    names[at],
                    f"seed {score.seed}: {score.value:.2f} dB".replace("-", "−"),
                    f"run {score.run.run_id}",
                ]
                for score in row.scores
            ]
            one = row.standing.difference
            ends = [f"{one.mean:.2f} dB", f"{one.low:.2f} to {one.high:.2f}"]
            said = [words.replace("-", "−") for words in ends]
            assert hints("differences", 1)[at] == [names[at], *said]
        epoch = hints("curves", 3)[2]  # of the second setting
        mean = LEVELS[1] * (1 - 0.7**2) + 1
        assert epoch[:2] == [names[1], f"epoch 2: {float(f'{mean:.5g}'):g}"]
        assert epoch[2] == f"{mean - 1:.5g} to {mean + 1:.5g} over 3 seeds"
        assert hints("pareto", 2)[0][0] == names[0]
        first = hints("examples", 1)[0]
        assert first[0] == "mixture 0"
        x, y = drawn(seen, "examples", 1)[0]
        assert [one[0] for one in first[1:]] == ["A", "B"]
        told = [float(one[2:].replace("−", "-")) for one in first[1:]]
        assert told == pytest.approx([x, y], abs=0.02)
        assert hints("search", 1)[1][:3] == [
            "trial 1, finished: 12",
            "head = straight_through_clip",
            "optimizer.lr = 0.0002",
        ]
        assert hints("search", 3) == [["trial 6, failed"]]

    def test_better_lines_are_nearer_to_the_good_end_of_the_ramp(self, seen) -> None:
        data = read(seen, "return chart('parallel').getOption().series[0].data")
        colours = {one["place"]: one["lineStyle"]["color"] for one in data}
        score = {n: 5 + (n * 7) % 10 for n in range(10) if n != 6}
        best, worst = max(score, key=score.__getitem__), min(score, key=score.__getitem__)
        assert brightness(colours[best]) < brightness(colours[worst])
        ramp = seen.find_element(By.CSS_SELECTOR, "[data-chart=parallel] .ramp")
        low, high = read(seen, "return [...arguments[0].childNodes].map((n) => n.data)", ramp)[::2]
        assert float(low) < float(high)
        dashed = [one["place"] for one in data if one["lineStyle"]["type"] == "dashed"]
        assert dashed == [4]  # the pruned one
        assert [one["place"] for one in data if one["lineStyle"]["width"] > 2] == [4, 7]

    def test_example_by_example(self, axes, axes_home) -> None:
        def mean(place: int) -> list[float]:
            files = [axes_home.path / f"f{place}{seed:010x}" for seed in range(SEEDS)]
            tables = [json.loads((one / "test_examples.json").read_text()) for one in files]
            return [float(v) for v in np.mean([one[SEPARATION] for one in tables], axis=0)]

        a, b = mean(0), mean(1)
        found = drawn(axes, "examples", 1)
        assert [x for x, _ in found] == pytest.approx(a, abs=0.01)
        assert [y for _, y in found] == pytest.approx(b, abs=0.01)
        better = sum(y > x for x, y in zip(a, b, strict=True))
        said = axes.find_element(By.CSS_SELECTOR, "[data-chart=examples] .tally").text
        assert said == f"B is better on {better} of {UNITS}, A on {UNITS - better}."
        axes.find_elements(By.CSS_SELECTOR, "[data-chart=examples] .b option")[2].click()
        assert [y for _, y in drawn(axes, "examples", 1)] == pytest.approx(mean(2), abs=0.01)

    def test_what_has_no_interval_has_no_whisker_and_a_wild_example_is_counted(self, axes) -> None:
        change = (
            "const { board } = document.querySelector('[data-chart=examples]');"
            "board.data.settings[1].difference = [-1, null, null];"
            "board.data.examples.scores[1][1][3] = 1e6;"  # of B alone
            "for (const name of ['differences', 'examples']) board.draw(board.charts.get(name));"
        )
        read(axes, change)
        rows = "return chart('differences').getOption().series[0].data.map((one) => one.value[0])"
        assert read(axes, rows) == [0, 2, 3]
        note = axes.find_element(By.CSS_SELECTOR, "[data-chart=examples] .beyond")
        assert note.text == "1 example lies beyond the scale."
        read(
            axes,
            "const { board } = document.querySelector('[data-chart=search]');"
            "board.data.trials[0][2] = -1e30;"  # it diverged
            "board.draw(board.charts.get('search'))",
        )
        assert read(axes, "return chart('search').getOption().yAxis[0].min") >= 0

    def test_search(self, seen) -> None:
        values = {n: 5 + (n * 7) % 10 for n in range(10) if n != 6}
        finished = {n: value for n, value in values.items() if n != 4}
        found = drawn(seen, "search", 1)
        assert [round(x) for x, _ in found] == list(finished)
        assert [y for _, y in found] == pytest.approx(list(finished.values()), abs=0.01)
        ((x, y),) = drawn(seen, "search", 2)
        assert (round(x), y) == (4, pytest.approx(values[4], abs=0.01))
        assert [round(x) for x, _ in drawn(seen, "search", 3)] == [6]
        best = read(seen, "return chart('search').getOption().series[0].data")
        assert best == [[0, 5], [1, 12], [7, 14], [9, 14]]  # what was pruned is no best one

    def test_score_against_one_setting(self, axes) -> None:
        card = axes.find_element(By.CSS_SELECTOR, "[data-chart=slice]")
        card.find_elements(By.CSS_SELECTOR, ".axis option")[1].click()
        found = drawn(axes, "slice", 0)
        kept = [n for n in range(10) if n not in (4, 6)]
        assert [math.log2(x / 0.0001) for x, _ in found] == pytest.approx(kept, abs=0.02)
        assert [y for _, y in found] == pytest.approx([5 + (n * 7) % 10 for n in kept], abs=0.01)
        weights = card.find_elements(By.CSS_SELECTOR, ".weights li")
        assert len(weights) == 3  # what the search varied

    def test_parallel_lines_pass_the_values_of_their_trials(self, seen) -> None:
        """Each axis is read by its own scale; the score's is the last."""
        found = read(
            seen,
            "const at = chart('parallel'), series = at.getModel().getSeriesByIndex(0);"
            "const data = series.getData(), space = series.coordinateSystem;"
            "return data.mapArray((i) => { const raw = at.getOption().series[0].data[i];"
            "const line = data.getItemGraphicEl(i).shape.points;"
            "const axis = (n) => space.getAxis(space.dimensions[n]);"
            "const value = (n, p) => { const layout = space.getAxisLayout(space.dimensions[n]);"
            "const local = p[1] - layout.position[1]; "
            "return axis(n).coordToData(-local) };"
            "return [raw.place, value(1, line[1]), value(6, line[6])] })",
        )
        for place, rate, score in found:
            if rate is not None:
                assert math.log2(rate / 0.0001) == pytest.approx(place, abs=0.05)
            assert score == pytest.approx(5 + (place * 7) % 10, abs=0.05)

    def test_brushing_an_axis_keeps_a_range(self, axes) -> None:
        kept = [n for n in range(10) if n != 6 and 5 + (n * 7) % 10 > 9.5]
        assert brushed(axes) == f"{len(kept)} of 9 shown"
        card = axes.find_element(By.CSS_SELECTOR, "[data-chart=parallel]")
        press(axes, card.find_element(By.CSS_SELECTOR, ".whole"))
        assert card.find_element(By.CSS_SELECTOR, ".tally").text == "9 of 9 shown"

    def test_timeline(self, seen) -> None:
        bars = read(
            seen,
            "const at = chart('timeline'), data = at.getModel().getSeriesByIndex(0).getData();"
            "return data.mapArray((i) => { const s = data.getItemGraphicEl(i).shape;"
            "return [s.x, s.x + s.width]"
            ".map((x) => at.convertFromPixel({gridIndex: 0}, [x, s.y])[0]) })",
        )
        assert len(bars) == 10 + 4 * SEEDS
        eight = 1772352000000  # 2026-03-01 08:00 UTC
        whole_ms = (5 * 60 + 28) * 60_000
        for trial, (start, _) in enumerate(bars[:10]):
            assert start == pytest.approx(eight + trial * 60_000, abs=whole_ms / 1000)
        start, end = bars[10]
        assert start == pytest.approx(eight + 120 * 60_000, abs=whole_ms / 1000)
        assert end - start == pytest.approx(8 * 60_000, abs=whole_ms / 500)

    def test_the_timeline_tells_states_and_purposes_apart(self, seen) -> None:
        looks = read(
            seen,
            "const at = chart('timeline'), data = at.getModel().getSeriesByIndex(0).getData();"
            "return data.mapArray((i) => { const s = data.getItemGraphicEl(i).style;"
            "return [s.fill, s.opacity] })",
        )
        said = read(seen, "return chart('timeline').getOption().series[0].data")
        assert {one["value"][0] for one in said} == {0}  # one after the other in one lane
        trials, finals = looks[:10], looks[10:]
        assert {tuple(look) for look in finals} == {(finals[0][0], 1)}
        assert {opacity for _, opacity in trials} == {0.55}
        filled = [fill == finals[0][0] for fill, _ in trials]
        assert filled == [trial not in (4, 6) for trial in range(10)]
        assert trials[4][0] == "transparent"
        assert trials[6][0] != finals[0][0]
        assert said[6]["said"][:2] == ["trial 6 (search)", "failed, 60 s"]
        name, *rest = said[10]["said"]
        assert name.startswith("1. clip_at_eval · lr=0.003 · ")
        assert name.endswith(" · any, seed 1000 (final)")
        assert rest == ["finished, 480 s", "2026-03-01 10:00:00"]

    def test_where_lower_is_better_the_charts_turn_round(
        self, browser, new_home, tmp_path: Path
    ) -> None:
        home, key = new_home(tmp_path / "runs"), "equal_error_rate"
        pairs = {"test/speakers": [["a", "b"], ["b", "c"], ["c", "d"]]}
        for place, (head_name, rate) in enumerate((("tanh", 0.1), ("sine", 0.2))):
            for seed in range(3):
                score = rate + 0.004 * seed * (1 + place)
                folder = home.write(
                    f"{head_name}{seed}",
                    task="verification",
                    head=head_name,
                    seed=9 + seed,
                    metrics={f"test/{key}": score, f"test/{key}_q95": score + 0.1},
                    monitor={"name": f"val/{key}", "mode": "min", "value": rate},
                    examples_file="test_examples.json",
                )
                wrong = [0.1, 0.2 - 0.1 * place, 0.3 - 0.1 * place]
                kept = pairs | {"test/error_rate_at_val_threshold_of_pair": wrong}
                (folder / "test_examples.json").write_text(json.dumps(kept))
        for trial, value in enumerate((0.3, 0.4, 0.2, 0.25, 0.95)):  # the last collapsed
            home.write(
                f"5{trial:011x}",
                task="verification",
                purpose="search",
                trial=trial,
                config_hash=f"search{trial}",
                head="cosine",
                overrides=["head=cosine", f"optimizer.lr={trial + 1}"],
                monitor={"name": f"val/{key}", "mode": "min", "value": value},
            )
        (tmp_path / "a.html").write_text(page(load_boards(home.path)), encoding="utf-8")
        show(browser, tmp_path / "a.html")
        best = read(browser, "return chart('search').getOption().series[0].data")
        assert best == [[0, 30], [2, 20], [4, 20]]
        seeds = read(browser, "return chart('seeds').getOption().xAxis[0].data")
        assert seeds == ["9", "10", "11"]
        for chart in ("search", "slice", "parallel"):
            note = browser.find_element(By.CSS_SELECTOR, f"[data-chart={chart}] .beyond")
            assert note.text == "1 trial lies beyond the scale."
        assert read(browser, "return chart('search').getOption().yAxis[0].max") == 45
        tally = browser.find_element(By.CSS_SELECTOR, "[data-chart=examples] .tally").text
        assert tally == "B is better on 2 of 3, A on 0, equal on 1."
        data = read(browser, "return chart('parallel').getOption().series[0].data")
        shades = {one["place"]: brightness(one["lineStyle"]["color"]) for one in data}
        assert shades[2] == min(shades.values()) < shades[3] < shades[0] < shades[1]
        ramp = browser.find_element(By.CSS_SELECTOR, "[data-chart=parallel] .ramp").text.split()
        assert float(ramp[0]) > float(ramp[-1])
        name = read(browser, "return chart('differences').getOption().xAxis[0].name")
        assert name == "difference (%), right is worse"
        mean = drawn(browser, "differences", 1)[1][0]
        assert mean == pytest.approx(10.4, abs=0.01)
        name = read(browser, "return chart('pareto').getOption().yAxis[0].name")
        assert name == "95 % percentile (%)"
        assert browser.get_log("browser") == []

    def test_a_board_where_lower_is_better_and_scores_are_per_cent(self, opened) -> None:
        (_, margins, _) = load_boards_of(opened)
        assert margins["metric"]["higher"] is False
        shown = opened.execute_script(
            "return [...document.querySelectorAll('#settings-1 tr.ranked')]"
            ".map((r) => r.querySelector('.score')).map((c) => [+c.dataset.v, c.textContent])"
        )
        for value, text in shown:
            assert text.startswith(f"{value:.2f}")
        assert [round(one["score"][0], 2) for one in margins["settings"]] == [
            pytest.approx(round(value, 2)) for value, _ in shown
        ]


def brightness(colour: str) -> int:
    """Sum of the parts of ``rgb(1,2,3)``."""
    return sum(int(one) for one in colour.removeprefix("rgb(").removesuffix(")").split(","))


def load_boards_of(browser) -> list[dict]:
    return browser.execute_script("return JSON.parse(document.getElementById('data').textContent)")


class TestSounds:
    def test_worst_median_and_best_with_each_settings_score(self, seen, axes_home, board) -> None:
        files = [axes_home.path / f"f{place}{0:010x}" for place in range(4)]
        tables = [json.loads((one / "test_examples.json").read_text()) for one in files]
        table = [one[SEPARATION][:5] for one in tables]
        order = sorted(range(5), key=table[0].__getitem__)
        titles = [one.text for one in seen.find_elements(By.CSS_SELECTOR, ".example h4")]
        assert titles == [
            f"Test example {order[place]} {word}"
            for place, word in ((0, "worst"), (2, "median"), (4, "best"))
        ]
        rows = seen.execute_script(
            "return [...document.querySelectorAll('.example')[0].querySelectorAll('tbody tr')]"
            ".map((r) => [...r.cells].map((c) => c.textContent))"
        )
        assert rows[0][0] == "Test set"
        for place, row in enumerate(rows[1:]):
            assert row[1] == f"{table[place][order[0]]:.2f}".replace("-", "−")
        assert len(rows) == 5

    def test_each_lasts_two_seconds(self, seen) -> None:
        seconds = seen.execute_async_script(
            "const done = arguments[0], all = [...document.querySelectorAll('audio')];"
            "Promise.all(all.map((a) => new Promise((then) => {"
            "a.addEventListener('loadedmetadata', () => then(a.duration));"
            "a.addEventListener('error', () => then('refused')); a.preload = 'metadata'; a.load();"
            "}))).then(done)"
        )
        assert seconds == pytest.approx([2.0] * 18, abs=0.1)  # MP3 has silence before its first

    def test_one_plays_at_a_time_and_another_goes_on_in_place(self, axes) -> None:
        switched(axes)

    def test_arrow_keys_go_from_sound_to_sound(self, axes) -> None:
        grid = axes.find_element(By.CSS_SELECTOR, ".example")
        first = grid.find_elements(By.CSS_SELECTOR, "tr[data-s='0'] button.play")[-1]
        first.send_keys(Keys.ARROW_DOWN)
        row = "return document.activeElement.closest('tr').dataset.s"
        assert axes.execute_script(row) == "1"
        axes.switch_to.active_element.send_keys(Keys.ARROW_UP)
        assert axes.execute_script(row) == "0"
        assert axes.switch_to.active_element == first
        left, right = grid.find_elements(By.CSS_SELECTOR, "button.play")[:2]
        left.send_keys(Keys.ARROW_RIGHT)
        assert axes.switch_to.active_element == right
        right.send_keys(Keys.ARROW_LEFT)
        assert axes.switch_to.active_element == left

    def test_each_row_plays_its_own_runs_sound(self, seen, axes_home, board) -> None:
        found = seen.execute_script(
            "return [...document.querySelectorAll('.example')].map((g) => [g.querySelector('h4')"
            ".textContent, [...g.querySelectorAll('tbody tr')].map((r) => [r.dataset.s ?? null,"
            "[...r.querySelectorAll('audio')].map((a) => [a.getAttribute('aria-label'), a.src])])])"
        )
        for title, rows in found:
            number = title.split()[2]
            for place, sounds_of in rows:
                run = board.rows[int(place or 0)].scores[0].run
                for label, source in sounds_of:
                    signal = label.split(",")[0].replace(" ", "-")
                    assert signal.startswith("estimate") is (place is not None)
                    (path,) = (run.folder / "audio").glob(f"{number}-{signal}.*")
                    assert base64.b64decode(source.partition(",")[2]) == path.read_bytes()
        assert [place for place, _ in found[0][1]] == [None, "0", "1", "2", "3"]


def test_the_page_holds_every_setting(seen, board) -> None:
    rows = seen.find_elements(By.CSS_SELECTOR, "#settings-0 tbody tr[data-s]")
    assert len(rows) == len(entries_of(board)) == 14
