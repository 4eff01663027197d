"""What `lightning-sep data` does."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import soundfile
import yaml

from lightning_sep.data import commands
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
