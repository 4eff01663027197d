"""What `lightning-sep data` does."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from lightning_sep.cli import main
from lightning_sep.data import commands
from lightning_sep.data.folder import Folder
from lightning_sep.errors import ConfigError, DataError

CONF = Path(__file__).parents[2] / "conf"
ENTRIES = sorted([*CONF.glob("data/*.yaml"), *CONF.glob("examples/*.yaml")])


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_names_every_argument_of_its_class_with_its_default(path):
    node = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    assert set(node) == set(parameters)
    for key, value in node.items():
        default = parameters[key].default
        if not str(value).startswith("${"):
            assert value == (list(default) if isinstance(default, tuple) else default)


def test_every_set_is_listed_before_anything_is_prepared(tmp_path):
    listed = {entry["name"]: entry for entry in commands.list_corpora(tmp_path)}
    assert {"synthetic", "folder", "esc10", "librispeech"} <= set(listed)
    assert not any(entry["prepared"] for entry in listed.values())
    assert json.dumps(listed)


def test_a_prepared_set_is_listed_with_its_hours_and_licence(synthetic_home):
    listed = {entry["name"]: entry for entry in commands.list_corpora(synthetic_home)}
    entry = listed["synthetic"]
    assert entry["prepared"]
    assert entry["hours"] == pytest.approx(0.142, abs=0.01)
    assert entry["sample_rate"] == 8000
    assert set(entry["splits"]) == {"train", "val", "test"}
    assert entry["licence"]


def test_a_folder_is_prepared_verified_and_listed(tmp_path, tone):
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", tone(number, 0.1), 8000)
    made = commands.prepare("folder", tmp_path / "sounds", tmp_path / "home")
    assert commands.verify("folder", tmp_path / "home")["verified"][0]["hash"] == made["hash"]
    listed = {entry["name"]: entry for entry in commands.list_corpora(tmp_path / "home")}
    assert listed["folder"]["counts"]["files"] == 4


def test_a_damaged_set_is_mended_by_preparing_it_again(tmp_path, tone):
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", tone(number, 0.1), 8000)
    made = commands.prepare("folder", tmp_path / "sounds", tmp_path / "home")
    (Path(made["folder"]) / "items.json").write_text("{}")
    with pytest.raises(DataError):
        commands.verify("folder", tmp_path / "home")
    commands.prepare("folder", tmp_path / "sounds", tmp_path / "home")
    commands.verify("folder", tmp_path / "home")


def test_an_entry_of_the_users_own_goes_before_ours(tmp_path, monkeypatch):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    entry = "_target_: lightning_sep.data.synthetic.Synthetic\nspeakers: 13\n"
    (tmp_path / "conf" / "data" / "synthetic.yaml").write_text(entry)
    assert commands.corpus("synthetic").speakers == 24
    monkeypatch.chdir(tmp_path)
    assert commands.corpus("synthetic").speakers == 13


def test_every_form_of_a_set_is_verified(tmp_path, sounds):
    made = [
        commands.prepare("folder", sounds, tmp_path / "home", settings=[f"data.sample_rate={rate}"])
        for rate in (8000, 4000)
    ]
    told = commands.verify("folder", tmp_path / "home")
    newest_first = [one["folder"] for one in reversed(made)]
    assert [one["folder"] for one in told["verified"]] == newest_first
    for one in made:
        table = Path(one["folder"]) / "statistics.json"
        whole = table.read_bytes()
        table.write_bytes(whole + b" ")
        with pytest.raises(DataError, match=r"1 files of folder .*\n.*statistics\.json: differs"):
            commands.verify("folder", tmp_path / "home")
        table.write_bytes(whole)


def test_a_misspelt_set_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"no data 'piani' in conf/data. Did you mean 'piano'"):
        commands.prepare("piani", None, tmp_path)


def test_what_is_not_prepared_cannot_be_verified(tmp_path):
    with pytest.raises(DataError, match="lightning-sep data prepare piano --source FOLDER"):
        commands.verify("piano", tmp_path)


def test_a_set_that_is_made_here_takes_no_source(tmp_path):
    with pytest.raises(ConfigError, match="takes no --source"):
        commands.prepare("synthetic", tmp_path, tmp_path)


def test_listing_and_opening_a_prepared_set_import_no_lhotse_scipy_or_torch(synthetic_home):
    code = (
        "import sys; from pathlib import Path; from lightning_sep.data import commands;"
        f"home = Path({str(synthetic_home)!r}); commands.list_corpora(home);"
        "commands.corpus('synthetic').open(home).reader;"
        "print(sorted({'lhotse', 'scipy', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"


@pytest.fixture
def sounds(tmp_path, tone):
    for number in range(4):
        path = tmp_path / "sounds" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tone(number, 0.1), 8000)
    return tmp_path / "sounds"


def test_a_set_is_prepared_with_settings_as_a_run_will_ask_for_it(sounds, tmp_path):
    settings = ["data.sample_rate=4000", "data.seed=3"]
    told = commands.prepare("folder", sounds, tmp_path / "home", settings=settings)
    assert told["sample_rate"] == 4000
    corpus = Folder(str(sounds), seed=3, sample_rate=4000)
    assert corpus.prepared_folder(tmp_path / "home") == Path(told["folder"])
    named = [*settings, f"data.path={sounds}"]
    found = commands.verify("folder", tmp_path / "home", settings=named)
    assert [one["folder"] for one in found["verified"]] == [told["folder"]]
    with pytest.raises(DataError, match="folder is not prepared in"):
        commands.verify("folder", tmp_path / "home", settings=[*named, "data.seed=4"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("task=separation", "only settings of the data count here"),
        ("data.sampel_rate=4000", "Did you mean 'sample_rate'"),
        ("data.sample_rate=4", "from 1000 to 384000"),
        ("data.keep=perhaps", "data.keep"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_file_is_read(sounds, tmp_path, setting, said):
    with pytest.raises(ConfigError, match=said):
        commands.prepare("folder", sounds, tmp_path / "home", settings=[setting])
    assert not (tmp_path / "home").exists()


def test_the_command_takes_settings_and_keep_and_shows_what_was_left_out(
    sounds, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LIGHTNING_SEP_DATA", str(tmp_path / "home"))
    soundfile.write(sounds / "loud.wav", np.ones(800), 8000)
    (sounds / "notes.txt").write_text("x")
    given = ["data", "prepare", "folder", "data.sample_rate=4000", "--source", str(sounds)]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert "loud.wav: 100.0% of its samples are clipped. data.keep=true" in error
    assert error.count("\n") == 1
    assert main([*given, "--keep"]) == 0
    shown = dict(
        line.split(maxsplit=1)
        for line in capsys.readouterr().out.splitlines()[1:]
        if " " in line.strip()
    )
    assert (shown["found"], shown["left_out"], shown["kept"]) == ("6", ".txt 1", "1")
    assert shown["sample_rate"] == "4000"


_LONG = """
import re, sys
from pathlib import Path
import soxr, torch
from lightning_sep.data.folder import Folder
def mib(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
imports = mib("VmHWM")
told = []
prepared = Folder(sys.argv[1], sample_rate=32000, cache_limit_mb=float(sys.argv[3])).open(
    Path(sys.argv[2]), lambda done, total, text: told.append(text)
)
prepared.reader
print(prepared.hours() * 60, mib("VmHWM") - imports)
print([text for text in told if "min of it" in text])
"""


@pytest.mark.parametrize("cache_limit_mb", ["1000", "1"])
def test_preparing_a_long_stereo_file_takes_little_memory(tmp_path, cache_limit_mb):
    (tmp_path / "sounds").mkdir()
    block = (3000 * np.random.default_rng(0).normal(size=(44100 * 60, 1))).astype(np.int16)
    with soundfile.SoundFile(tmp_path / "sounds" / "a.wav", "w", 44100, 2, "PCM_16") as file:
        for _ in range(12):
            file.write(np.repeat(block, 2, axis=1))
    out = subprocess.run(
        [
            *(sys.executable, "-c", _LONG),
            *(str(tmp_path / "sounds"), str(tmp_path / "home"), cache_limit_mb),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()
    minutes, mib = map(float, out[0].split())
    assert minutes == pytest.approx(12, abs=0.01)
    assert mib < 60  # besides imports; all samples would be 127, as float64 500
    assert out[1] == "['folder: a.wav: 9 min of it']"
