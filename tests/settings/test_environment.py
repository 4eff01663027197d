"""What variables hold stays out of settings and errors; paths of data are kept as written."""

import sys

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.settings import build, compose, from_tree, peek

SECRET = "s3cret-value"
FOLDER = ["data=folder", "data.path=${oc.env:SOUNDS}"]


@pytest.fixture(autouse=True)
def variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_SECRET", SECRET)
    monkeypatch.setenv("SOUNDS", str(tmp_path))
    monkeypatch.delenv("NOT_THERE", raising=False)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["net.leak=${oc.env:A_SECRET}"], "net.leak"),
        (["tracking.project=${oc.env:A_SECRET}"], "tracking.project"),
        (["tracking.project=a${oc.env:A_SECRET}b"], "tracking.project"),
        (["seed=${oc.env:A_SECRET}"], "seed"),
        (["optimizer.betas=[0.1,${oc.env:A_SECRET}]"], "optimizer.betas"),
        (["data=folder", "data.seed=${oc.env:A_SECRET}"], "data.seed"),
        (["data=folder", "data.path=[${oc.env:A_SECRET}]"], "data.path"),
        (["data=folder", "data.path=${oc.env:SOUNDS}/${seed}"], "data.path"),
        ([*FOLDER, "tracking.project=${data.path}"], "tracking.project"),
        ([*FOLDER, "tracking.project=a${oc.select:data.path}"], "tracking.project"),
        (["tracking.project=${oc.decode:A}"], "tracking.project"),
        (["tracking.project=${now:%Y}"], "tracking.project"),
    ],
)
def test_a_setting_that_would_show_a_variable_is_refused_by_name(overrides, named):
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert str(caught.value).startswith(named)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value) + str(peek(overrides))


@pytest.mark.parametrize(
    "text", ["${oc.${.mode}:A_SECRET}", "${oc.decode:${oc.env:A_SECRET}}", "${oc.decode:'\\${x}'}"]
)
def test_an_entry_that_would_show_a_variable_is_refused(tmp_path, text):
    entry = tmp_path / "conf" / "tracking" / "mine.yaml"
    entry.parent.mkdir(parents=True)
    entry.write_text(
        "_target_: lightning_sep.tracking.Tracking\nmode: env\n"
        f"project: {text}\n"
        "entity: null\naudio_examples: 0\n"
    )
    with pytest.raises(ConfigError, match=r"^tracking\.project: ") as caught:
        compose(["tracking=mine"])
    assert SECRET not in str(caught.value) + str(peek(["tracking=mine"]))


def test_defaults_of_an_entry_are_refused_that_read_the_environment(tmp_path):
    entry = tmp_path / "conf" / "head" / "mine.yaml"
    entry.parent.mkdir(parents=True)
    entry.write_text("defaults:\n  - ${oc.env:A_SECRET}\n_target_: torch.nn.Tanh\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: defaults may name groups") as caught:
        compose(["head=mine"])
    assert SECRET not in str(caught.value)


def test_a_path_of_data_is_kept_as_written():
    assert compose(FOLDER).tree["data"]["path"] == "${oc.env:SOUNDS}"
    assert peek(FOLDER)["data"]["path"] == "${oc.env:SOUNDS}"


def test_a_path_of_data_is_read_when_the_data_are_built(tmp_path):
    assert build(compose(FOLDER).tree["data"]).path == str(tmp_path)


def test_a_record_with_such_a_path_is_read_where_the_variable_is_not_set(monkeypatch):
    tree = compose(FOLDER).tree
    monkeypatch.delenv("SOUNDS")
    assert from_tree(tree).tree == tree


@pytest.mark.parametrize("variable", ["A_SECRET", "NOT_THERE", "EMPTY"])
def test_what_is_no_path_is_neither_used_nor_shown(variable, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    text = f"${{oc.env:{variable}}}"
    settings = compose(["data=folder", f"data.path={text}"])
    with pytest.raises(ConfigError, match=r"^path = '\$\{oc\.env:") as caught:
        build(settings.tree["data"])
    assert SECRET not in str(caught.value)
    assert text in str(caught.value)


def test_settings_still_take_each_others_values():
    assert compose(["trainer.epochs=${oc.select:seed}", "seed=3"]).tree["trainer"]["epochs"] == 3


@pytest.mark.parametrize("name", ["path", "source", "folder"])
def test_an_argument_that_is_called_like_a_path_is_one(name, tmp_path, monkeypatch):
    (tmp_path / "my_sets.py").write_text(
        "class Set:\n    def __init__(self, path=None, source=None, folder=None, other=None):\n"
        "        self.found = [path, source, folder, other]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "my_sets")
    monkeypatch.setenv("HERE", str(tmp_path))
    text = "${oc.env:HERE}"
    made = build({"_target_": "my_sets.Set", name: text, "other": text})
    assert [one for one in made.found if one is not None] == [str(tmp_path), text]
    sys.modules.pop("my_sets", None)


def test_neither_a_path_elsewhere_nor_another_text_of_data_comes_from_the_environment(
    tmp_path, monkeypatch
):
    (tmp_path / "own_places.py").write_text(
        "from pathlib import Path\n\nclass Own:\n"
        "    def __init__(self, place: Path, name: str) -> None:\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "own_places")
    for group in ("data", "tracking"):
        entry = tmp_path / "conf" / group / "own.yaml"
        entry.parent.mkdir(parents=True)
        entry.write_text("_target_: own_places.Own\nplace: .\nname: x\n")
    text = "${oc.env:SOUNDS}"
    assert compose(["data=own", f"data.place={text}"]).tree["data"]["place"] == text
    for group, name in (("data", "name"), ("tracking", "place")):
        with pytest.raises(ConfigError, match=rf"^{group}\.{name}: only paths of data"):
            compose([f"{group}=own", f"{group}.{name}={text}"])
    sys.modules.pop("own_places", None)
