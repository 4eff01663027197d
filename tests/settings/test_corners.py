"""What is easy to get wrong at the edges of settings."""

from pathlib import Path

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.settings import compose, conf_folders, entries, from_tree, groups, peek
from lightning_sep.settings.words import nearest, together


@pytest.fixture
def conf(tmp_path, monkeypatch) -> Path:
    """The folder of one's own entries."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "head").mkdir(parents=True)
    return tmp_path / "conf"


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_bounds_of_seeds_are_seeds(seed):
    settings = compose([f"seed={seed}"])
    assert settings.tree["seed"] == seed
    assert from_tree(settings.tree).tree["seed"] == seed


@pytest.mark.parametrize("seed", [-1, 2**32, "1", None, True])
def test_a_record_with_another_seed_is_refused(seed):
    with pytest.raises(ConfigError, match=r"^seed = .*: a whole number from 0 to 4294967295"):
        from_tree(compose().tree | {"seed": seed})


def test_hidden_files_are_no_entries(conf):
    for name in (".hidden.yaml", "_part.yaml", "notes.txt", "mine.yaml"):
        (conf / "head" / name).write_text("_target_: torch.nn.Tanh\n")
    assert set(entries("head")) - set(entries("head", None)) == set()
    assert "mine" in entries("head")
    assert not {".hidden", "_part", "notes", "notes.txt"} & set(entries("head"))


def test_folders_of_ours_are_groups_and_no_files():
    assert "head" in groups()
    assert "config.yaml" not in groups()
    assert groups() == sorted(groups())


def test_a_folder_that_is_named_twice_is_looked_at_once(conf, monkeypatch):
    assert conf_folders(conf) == conf_folders("conf") == conf_folders()
    assert len(conf_folders()) == 2
    monkeypatch.setenv("HOME", str(conf.parent))
    assert conf_folders("~/conf") == conf_folders()


def test_a_name_too_long_for_a_folder_is_none():
    with pytest.raises(ConfigError, match="no such folder"):
        conf_folders("x" * 5000)


def test_problems_are_told_once_each():
    assert str(together(["a", "a"])) == "a"
    assert str(together(["a", "b", "a"])) == "2 settings cannot be used:\n    a\n    b"


def test_the_nearest_name_is_told_where_there_is_one():
    assert nearest("tahn", ["sine", "tanh"]) == " Did you mean 'tanh'? Known: sine, tanh"
    assert nearest("tahn", ["zzz"]) == " Known: zzz"
    assert nearest("tahn", []) == " Known: none"


def test_a_part_of_a_list_that_cannot_be_resolved_is_named():
    with pytest.raises(ConfigError, match=r"^optimizer\.betas\.1 = '\$\{nowhere\}'"):
        compose(["optimizer.betas=[0.5,${nowhere}]"])


def test_a_value_that_cannot_be_resolved_is_all_that_is_wrong():
    with pytest.raises(ConfigError) as caught:
        compose(["optimizer.betas=${nowhere}", "trainer.epochs=0"])
    said = str(caught.value).splitlines()
    assert [line.split()[0] for line in said] == ["2", "optimizer.betas", "trainer=default:"]


def test_what_waits_for_a_value_in_an_entry_is_named(conf):
    (conf / "head" / "mine.yaml").write_text("_target_: torch.nn.Softshrink\nlambd: ???\n")
    with pytest.raises(
        ConfigError, match=r"^head\.lambd: has no value yet; give head\.lambd=\.\.\."
    ):
        compose(["head=mine"])
    assert compose(["head=mine", "head.lambd=0.5"]).tree["head"]["lambd"] == 0.5


def test_values_of_a_wrong_group_are_not_spoken_of_twice():
    with pytest.raises(ConfigError) as caught:
        compose(["head=tahn", "head.levels=3"])
    assert len(str(caught.value).splitlines()) == 1
    assert "no head 'tahn'" in str(caught.value)


def test_a_choice_that_is_a_number_is_an_entry(conf):
    (conf / "head" / "8.yaml").write_text("_target_: torch.nn.Tanh\n")
    with pytest.raises(ConfigError, match="no head 8 in conf/head"):
        compose(["head=8"])
    assert compose(["head='8'"]).choices["head"] == "8"


def test_an_entry_that_is_no_mapping_is_named(conf):
    (conf / "head" / "mine.yaml").write_text("lambd: 1\n")
    with pytest.raises(ConfigError, match=r"^head = \{'lambd': 1\}: an entry with _target_"):
        compose(["head=mine"])


def test_a_record_of_other_types_than_json_is_refused():
    with pytest.raises(ConfigError, match="JSON types only"):
        from_tree(compose().tree | {"head": {"_target_": object()}})


def test_peeking_takes_the_folder_that_is_given(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "wide.yaml").write_text("_target_: torch.nn.Tanh\nthreads: 2\n")
    assert peek(["trainer=wide"], tmp_path)["trainer"]["threads"] == 2
    assert peek(["trainer=wide"])["trainer"]["threads"] == 1  # there is no such entry
