"""The page in a real browser: it sorts, filters and brushes, and nothing is refused or fetched."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_sep.leaderboard.board import load_boards
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
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
)


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
        yield driver
        driver.quit()
    finally:
        if kept is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = kept


@pytest.fixture(scope="module")
def written(full_home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(page(load_boards(full_home.path)), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, written: Path):
    browser.get(written.as_uri())
    return browser


def board(browser, place: int = 0):
    return browser.find_element(By.ID, f"board-{place}")


def names(browser) -> list[str]:
    """Settings of the first board's visible rows, from the top."""
    rows = board(browser).find_elements(By.CSS_SELECTOR, "table.ranked tbody:not(.tried) tr")
    return [
        row.find_element(By.CSS_SELECTOR, "th").get_attribute("data-v")
        for row in rows
        if row.is_displayed()
    ]


def head(browser, words: str):
    return board(browser).find_element(By.XPATH, f".//th[button[starts-with(., '{words}')]]")


def test_the_console_stays_silent(opened) -> None:
    assert opened.get_log("browser") == []


def test_the_policy_refuses_what_others_slip_in(opened) -> None:
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.slipped = 1';"
        "document.body.append(s)"
    )
    assert opened.execute_script("return window.slipped") is None
    assert any("Content Security Policy" in entry["message"] for entry in opened.get_log("browser"))


def test_a_click_sorts_and_says_so(opened) -> None:
    before = names(opened)
    seeds = head(opened, "SI-SDR")
    button = seeds.find_element(By.TAG_NAME, "button")
    button.click()
    assert seeds.get_attribute("aria-sort") == "descending"
    assert names(opened) == before
    button.click()
    assert seeds.get_attribute("aria-sort") == "ascending"
    assert names(opened) == before[::-1]
    assert head(opened, "Rank").get_attribute("aria-sort") is None


def test_the_keyboard_sorts_too(opened) -> None:
    setting = head(opened, "Setting")
    setting.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert names(opened) == sorted(names(opened))
    setting.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert names(opened) == sorted(names(opened), reverse=True)


def test_the_filter_keeps_rows_with_every_word(opened) -> None:
    field = board(opened).find_element(By.CSS_SELECTOR, "input[type=search]")
    field.send_keys("clip eval")
    assert names(opened) == ["head=clip_at_eval optimizer.lr=0.001"]
    assert board(opened).find_element(By.CSS_SELECTOR, ".tools .shown").text == "5 of 32 settings"


def test_the_filter_knows_run_ids(opened) -> None:
    field = board(opened).find_element(By.CSS_SELECTOR, "input[type=search]")
    field.send_keys(f"2{100:011x}")
    assert names(opened) == ["head=tanh optimizer.lr=0.001"]


def visible_trials(browser) -> int:
    lines = board(browser).find_elements(By.CSS_SELECTOR, ".parallel .trial")
    return sum("out" not in line.get_attribute("class").split() for line in lines)


def grips(browser):
    return board(browser).find_elements(By.CSS_SELECTOR, ".parallel .grip")


def test_brushing_an_axis_hides_the_other_lines(opened) -> None:
    everything = visible_trials(opened)
    grip = grips(opened)[-1]
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", grip
    )
    upper_half = ActionChains(opened).move_to_element(grip)
    upper_half.click_and_hold().move_by_offset(0, -100).release().perform()
    assert 0 < visible_trials(opened) < everything
    said = board(opened).find_element(By.CSS_SELECTOR, "figure .shown").text
    assert said == f"{visible_trials(opened)} of {everything} trials shown"


def test_a_click_on_the_axis_removes_the_range(opened) -> None:
    everything = visible_trials(opened)
    grip = grips(opened)[0]
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", grip
    )
    chain = ActionChains(opened).move_to_element(grip)
    chain.click_and_hold().move_by_offset(0, 60).release().perform()
    assert visible_trials(opened) < everything
    ActionChains(opened).move_to_element(grip).click().perform()
    assert visible_trials(opened) == everything


def test_arrow_keys_brush_and_escape_undoes(opened) -> None:
    everything = visible_trials(opened)
    opened.execute_script("arguments[0].focus()", grips(opened)[-1])
    ActionChains(opened).send_keys(Keys.ARROW_UP).perform()
    assert visible_trials(opened) < everything
    ActionChains(opened).send_keys(Keys.ESCAPE).perform()
    assert visible_trials(opened) == everything


def test_a_command_is_copied_or_said_to_have_failed(opened) -> None:
    button = board(opened).find_element(By.CSS_SELECTOR, "table button.copy")
    button.click()
    answers = {"Copied", "Copy failed"}
    assert (
        opened.execute_async_script(
            "const [button, done] = arguments; const look = () => "
            "button.textContent === 'Copy' ? setTimeout(look, 20) : done(button.textContent);"
            "look()",
            button,
        )
        in answers
    )


def test_a_narrow_screen_needs_no_sideways_scrolling(opened) -> None:
    metrics = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        width = "return [document.documentElement.scrollWidth, arguments[0].scrollWidth]"
        table = board(opened).find_element(By.CSS_SELECTOR, "table.ranked")
        whole, ranked = opened.execute_script(width, table)
        assert whole <= 375
        assert ranked <= 375
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_sounds_can_be_decoded(opened) -> None:
    seconds = opened.execute_async_script(
        "const done = arguments[0], audio = document.querySelector('audio');"
        "audio.addEventListener('loadedmetadata', () => done(audio.duration));"
        "audio.addEventListener('error', () => done('refused'));"
        "audio.preload = 'metadata'; audio.load();"
    )
    assert seconds == pytest.approx(1.0)
