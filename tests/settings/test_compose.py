"""Overrides become checked settings, and what is wrong is told in words that help."""

import json
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError
from lightning_sep.settings import build, compose, entries, from_tree, groups

PARTS = """
    from pathlib import Path
    from typing import Literal

    from torch import nn

    from lightning_sep.errors import ConfigError


    class Wobble(nn.Module):
        def __init__(
            self,
            depth: float,
            kind: Literal["slow", "fast"],
            folder: Path,
            steps: list[int],
            note: str | None,
            pair: tuple[float, float],
        ) -> None:
            super().__init__()
            if depth <= 0:
                raise ConfigError(f"depth must be positive, got {depth}")
            self.depth, self.folder, self.pair = depth, folder, pair


    def not_a_class(depth: float) -> float:
        return depth
"""
ENTRY = """
    # A head of somebody's own.
    _target_: my_parts.Wobble
    depth: 1.0
    kind: slow
    folder: somewhere
    steps: [1, 2]
    note: null
    pair: [0, 1]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working folder with a package and a head of the user's own."""
    (tmp_path / "my_parts.py").write_text(textwrap.dedent(PARTS))
    folder = tmp_path / "conf" / "head"
    folder.mkdir(parents=True)
    (folder / "wobble.yaml").write_text(textwrap.dedent(ENTRY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "my_parts")
    yield tmp_path
    sys.modules.pop("my_parts", None)


def refusal(*overrides: str, config_dir: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, config_dir)
    return str(caught.value)


def test_what_is_not_said_has_a_default_in_every_group():
    tree = compose().tree
    assert [name for name in groups() if "_target_" not in tree[name]] == []


def test_a_task_brings_its_own_net():
    assert compose(["task=autoregression"]).choices["net"] == "lstm_small"


def test_a_net_that_the_user_names_wins_over_the_tasks():
    assert compose(["net=lstm", "task=autoregression"]).choices["net"] == "lstm"


def test_a_setting_is_moved_by_its_dotted_name():
    assert compose(["optimizer.learning_rate=1e-2"]).tree["optimizer"]["learning_rate"] == 0.01


def test_an_interpolation_takes_the_value_it_points_to():
    assert compose(["trainer.epochs=${seed}", "seed=3"]).tree["trainer"]["epochs"] == 3


def test_the_same_words_give_the_same_tree_twice():
    assert compose(["task=verification"]).tree == compose(["task=verification"]).tree


def test_hydra_in_use_elsewhere_is_left_as_it_was(tmp_path):
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        compose()
        assert GlobalHydra.instance().hydra is before


def test_settings_out_of_a_record_are_those_that_were_composed():
    tree = compose(["task=verification", "seed=5"]).tree
    assert from_tree(tree).tree == tree


class TestOneOfTheUsersOwn:
    def test_is_found_in_the_working_folder(self, own):
        assert "wobble" in entries("head")

    def test_is_composed_and_built(self, own):
        assert build(compose(["head=wobble"]).tree["head"]).depth == 1.0

    def test_is_found_by_config_dir(self, own, tmp_path_factory, monkeypatch):
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert compose(["head=wobble"], own / "conf").choices["head"] == "wobble"

    def test_is_found_in_a_folder_with_a_space_and_a_quote(self, own):
        (own / "conf").rename(own / "it's mine")
        assert compose(["head=wobble"], own / "it's mine").choices["head"] == "wobble"

    def test_is_built_with_a_path_where_the_class_wants_one(self, own):
        assert build(compose(["head=wobble"]).tree["head"]).folder == Path("somewhere")

    def test_is_built_with_a_tuple_where_the_class_wants_one(self, own):
        assert build(compose(["head=wobble"]).tree["head"]).pair == (0.0, 1.0)

    def test_is_refused_unless_its_package_is_allowed(self, own, monkeypatch):
        monkeypatch.delenv("LIGHTNING_SEP_PLUGINS")
        assert "LIGHTNING_SEP_PLUGINS=my_parts" in refusal("head=wobble")

    def test_may_not_hide_an_entry_of_ours(self, own):
        (own / "conf" / "head" / "wobble.yaml").rename(own / "conf" / "head" / "tanh.yaml")
        assert "Give your own another name" in refusal("head=tanh")

    def test_lacks_an_argument_and_is_told_which(self, own):
        path = own / "conf" / "head" / "wobble.yaml"
        path.write_text(path.read_text().replace("kind: slow\n", ""))
        assert "head.kind: Wobble needs it" in refusal("head=wobble")

    def test_waits_for_a_value_and_says_how_to_give_it(self, own):
        path = own / "conf" / "head" / "wobble.yaml"
        path.write_text(path.read_text().replace("depth: 1.0", "depth: ???"))
        assert "give head.depth=" in refusal("head=wobble")

    def test_is_broken_yaml_and_is_named(self, own):
        (own / "conf" / "head" / "wobble.yaml").write_text("a: [1")
        assert "wobble.yaml" in refusal("head=wobble")

    def test_cannot_be_imported_and_is_named(self, own):
        (own / "my_parts.py").write_text("1 / 0")
        assert "my_parts cannot be imported (ZeroDivisionError" in refusal("head=wobble")

    def test_needs_a_package_that_is_not_there(self, own):
        (own / "my_parts.py").write_text("import no_such_package_at_all")
        assert "needs the package 'no_such_package_at_all'" in refusal("head=wobble")

    def test_is_not_on_the_path_and_says_what_to_do(self, own):
        (own / "my_parts.py").unlink()
        assert "put it beside the folder conf/" in refusal("head=wobble")

    def test_is_a_function_and_is_refused(self, own):
        path = own / "conf" / "head" / "wobble.yaml"
        path.write_text("_target_: my_parts.not_a_class\ndepth: 1.0\n")
        assert "not a class" in refusal("head=wobble")

    @pytest.mark.parametrize(
        ("override", "needed"),
        [
            ("head.depth=big", "a finite number"),
            ("head.depth=true", "a finite number"),
            ("head.depth=nan", "a finite number"),
            ("head.depth=inf", "a finite number"),
            ("head.depth=null", "a finite number"),
            ("head.kind=sideways", "one of 'slow', 'fast'"),
            ("head.folder=3", "a path"),
            ("head.steps=[1,big]", "a list of whole numbers"),
            ("head.steps=3", "a list of whole numbers"),
            ("head.steps=[1.5]", "a list of whole numbers"),
            ("head.note=3", "text or null"),
            ("head.pair=[1,2,3]", "a list of 2 finite numbers"),
        ],
    )
    def test_refuses_what_its_signature_does_not_allow(self, own, override, needed):
        key = override.split("=")[0]
        assert refusal("head=wobble", override).endswith(f"{needed} is needed")
        assert key in refusal("head=wobble", override)

    def test_refuses_a_value_in_its_own_words(self, own):
        assert "depth must be positive, got 0" in refusal("head=wobble", "head.depth=0")

    def test_gets_a_float_for_a_whole_number(self, own):
        assert repr(compose(["head=wobble", "head.depth=2"]).tree["head"]["depth"]) == "2.0"


class TestARefusal:
    def test_names_the_nearest_entry(self):
        assert "no head 'tahn' in conf/head. Did you mean 'tanh'?" in refusal("head=tahn")

    def test_lists_the_entries_there_are(self):
        assert "adadelta, adam" in refusal("optimizer=sgdd")

    def test_names_the_nearest_group(self):
        assert "Did you mean 'head'?" in refusal("haed=tanh")

    def test_names_the_nearest_group_of_a_dotted_setting(self):
        assert "Did you mean 'trainer'?" in refusal("trianer.epochs=3")

    def test_names_the_nearest_setting(self):
        assert "Did you mean 'epochs'?" in refusal("trainer.epcohs=3")

    def test_of_a_setting_says_which_entry_was_chosen(self):
        assert "optimizer=rmsprop" in refusal("optimizer=rmsprop", "optimizer.betas=[0,0]")

    def test_tells_all_problems_at_once(self):
        text = refusal(
            "head=tahn", "haed=1", "trainer.epochs=big", "seed=-1", "+x=1", "trainer.x=1"
        )
        assert text.startswith("6 settings cannot be used:")

    @pytest.mark.parametrize(
        "override", ["+trainer.x=1", "~trainer", "++seed=2", "~trainer.epochs"]
    )
    def test_of_adding_and_deleting_is_polite(self, override):
        assert "can be changed, not added or deleted" in refusal(override)

    def test_of_several_values_names_the_grid(self):
        assert "sweep --grid head=tanh,sine" in refusal("head=tanh,sine")

    def test_of_unreadable_text_shows_the_quotes_it_needs(self):
        assert "\"tracking.project='a (b)'\"" in refusal("tracking.project=a (b)")

    @pytest.mark.parametrize("override", ["seed", "", "task"])
    def test_of_no_override_at_all_shows_the_form(self, override):
        assert "GROUP=ENTRY" in refusal(override)

    @pytest.mark.parametrize("seed", ["-1", "1.5", "big", "null", "true", "4294967296"])
    def test_of_a_seed_names_its_range(self, seed):
        assert "a whole number from 0 to 4294967295" in refusal(f"seed={seed}")

    @pytest.mark.parametrize("key", ["hydra.run.dir", "hydra/launcher", "head@net"])
    def test_keeps_hydras_own_settings_out_of_reach(self, key):
        assert refusal(f"{key}=x")

    def test_of_an_interpolation_names_what_is_missing(self):
        assert "nowhere" in refusal("trainer.epochs=${nowhere}")

    def test_of_another_class_points_to_the_entries(self):
        assert "chosen by its entry" in refusal("head._target_=lightning_sep.heads.sine.Sine")

    def test_of_a_setting_below_a_value_says_that_it_is_one(self):
        assert "single value" in refusal("trainer.epochs.more=1")

    def test_of_a_config_dir_names_it(self, tmp_path):
        assert "no such folder" in refusal(config_dir=tmp_path / "nothing")

    def test_comes_from_a_constructor_too(self):
        assert "epochs = 0: a whole number of at least 1 is needed" in refusal("trainer.epochs=0")

    def test_of_a_wrong_task_does_not_guess_about_the_rest(self):
        assert refusal("task=seperation", "net.depth=3").startswith("no task 'seperation'")


class TestARecord:
    def test_with_an_unknown_group_is_refused(self):
        tree = compose().tree
        with pytest.raises(ConfigError, match="no such group or setting"):
            from_tree({**tree, "extra": {}})

    def test_without_a_group_is_refused(self):
        tree = compose().tree
        del tree["head"]
        with pytest.raises(ConfigError, match="head: missing"):
            from_tree(tree)

    def test_with_a_misspelt_setting_is_refused(self):
        tree = compose().tree
        tree["trainer"]["epcohs"] = 3
        with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
            from_tree(tree)

    def test_is_taken_literally(self):
        tree = compose().tree
        tree["tracking"]["entity"] = "${oc.env:HOME}"
        assert from_tree(tree).tree["tracking"]["entity"] == "${oc.env:HOME}"

    @pytest.mark.parametrize(
        "target",
        [
            "os.system",
            "subprocess.Popen",
            "builtins.eval",
            "torch.hub.load",
            "torch.load",
            "torch.utils.data.DataLoader",
            "lightning_sep.settings.os.system",
            "lightning_sep.settings.importlib",
            "lightning_sep.settings.compose",
            "lightning_sep.fsio.Path",
            "lightning_sep.nowhere.Class",
            "lightning_sep.settings.Setings",
            "lightning_septic.Class",
            "tanh",
            "",
            3,
            None,
        ],
    )
    def test_cannot_name_what_is_not_a_part(self, target):
        tree = compose().tree
        tree["loss"] = {"_target_": target}
        with pytest.raises(ConfigError, match=r"loss: _target_ = "):
            from_tree(tree)

    def test_cannot_hide_one_inside_an_entry(self):
        tree = compose().tree
        tree["tracking"]["project"] = {"_target_": "os.system", "command": "true"}
        with pytest.raises(ConfigError, match=r"tracking\.project"):
            from_tree(tree)


class TestBuild:
    def test_fills_in_what_the_entry_leaves_out(self):
        node = {"_target_": "torch.nn.Linear", "out_features": 3}
        assert build(node, in_features=2).weight.shape == (3, 2)

    def test_does_not_let_an_entry_set_what_is_filled_in(self):
        with pytest.raises(ConfigError, match="filled in"):
            build({"_target_": "torch.nn.Linear", "in_features": 3}, in_features=2, out_features=1)

    def test_names_an_argument_that_the_class_does_not_have(self):
        with pytest.raises(ConfigError, match="Linear has no argument bais"):
            build({"_target_": "torch.nn.Linear", "bais": True}, in_features=2, out_features=1)

    def test_does_not_build_what_is_not_allowed(self):
        with pytest.raises(ConfigError, match="may not be built"):
            build({"_target_": "os.system"}, command="true")


def test_checking_settings_draws_no_random_number():
    import torch

    compose(["task=verification"])  # whatever is drawn by importing is drawn now
    torch.manual_seed(0)
    before = torch.get_rng_state()
    compose(["task=verification"])
    assert torch.equal(before, torch.get_rng_state())


KEYS = st.sampled_from(
    ["head", "seed", "trainer.epochs", "optimizer.betas", "optimizer.betas.0", "trainer",
     "head.x.y", "tracking.project", "nothing", "", "hydra.run", "task.sources",
     "optimizer.learning_rate"]
)  # fmt: skip
TEXTS = st.text(alphabet="ab1.,=[]{}'\"$:~+-() \\@/#%\n", max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds("{}={}".format, KEYS, TEXTS) | TEXTS, max_size=3))
def test_whatever_is_typed_is_composed_or_refused_in_words(overrides):
    with suppress(ConfigError):  # any other exception fails
        tree = compose(overrides).tree
        assert from_tree(json.loads(json.dumps(tree, allow_nan=False))).tree == tree
