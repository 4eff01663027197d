"""A run's id: everything that can change a number changes it, and nothing else does."""

import copy
import hashlib
import random
import re
import sys
from fnmatch import fnmatchcase
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError
from lightning_sep.run_id import (
    EXCLUDED,
    LATER,
    code_versions,
    config_hash,
    counted,
    plugin_fingerprints,
    refuse_edited,
    run_id,
    targets,
)
from lightning_sep.settings import compose
from lightning_sep.sources import code_hash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TREES = st.dictionaries(st.sampled_from(["net", "head", "loss", "seed"]), JSON, min_size=1)


def identity(tree, data="d", code="1", plugins=None):
    return run_id(tree, data, code=code, plugins=plugins or {})


def paths(node, where=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from paths(value, f"{where}{key}.")
        else:
            yield f"{where}{key}"


def changed(tree, path):
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    node = tree
    for one in parents:
        node = node[one]
    node[last] = "something else"
    return tree


def is_excluded(path):
    parts = path.split(".")
    heads = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return any(fnmatchcase(head, pattern) for head in heads for pattern in EXCLUDED)


def shuffled(node, order):
    if not isinstance(node, dict):
        return node
    keys = list(node)
    order.shuffle(keys)
    return {key: shuffled(node[key], order) for key in keys}


TREE = compose(["data=synthetic"]).tree
TREE["data"] |= {"path": "here", "channels": "mean"}  # as data=folder has them
COUNTED = [path for path in paths(TREE) if not is_excluded(path)]
NOT_COUNTED = [path for path in paths(TREE) if is_excluded(path)]


def later(tree):
    """The settings of a tree that came later."""
    split = {path: path.rpartition(".") for path in LATER}
    return [path for path, (group, _, name) in split.items() if name in inside(tree, group)]


def inside(tree, group):
    return tree[group] if group else tree


@pytest.mark.parametrize("task", ["separation", "verification"])
def test_settings_that_came_later_leave_the_hash_of_what_was_before(task):
    said = [f"task={task}", "data=folder"]
    before = compose(said).tree
    came = later(before)
    assert came
    for path in came:
        group, _, name = path.rpartition(".")
        assert inside(before, group).pop(name) == LATER[path]
    del before["data"]["channels"]
    assert config_hash(compose(said).tree) == config_hash(before)
    assert config_hash(compose([*said, "data.channels=keep"]).tree) == config_hash(before)
    for path in came:
        assert config_hash(changed(compose(said).tree, path)) != config_hash(before)


def test_of_the_run_that_a_run_begins_with_the_weights_count_not_the_name():
    here, there, other = ({**TREE, "init_from": text} for text in ("a@12", "b@12", "a@34"))
    assert identity(here) == identity(there) != identity(other)
    assert identity(other) != identity(TREE)


def test_all_that_came_later_is_a_setting_of_some_task():
    tasks = [compose([f"task={task}"]).tree for task in ("separation", "verification")]
    assert {path for tree in tasks for path in later(tree)} == set(LATER)


def test_is_twelve_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{12}", identity(TREE))


@given(TREES, st.integers())
def test_the_order_of_keys_does_not_matter(tree, seed):
    assert identity(shuffled(tree, random.Random(seed))) == identity(tree)


@given(TREES, TREES)
def test_different_settings_are_different_runs(one, other):
    def canonical(node):
        if isinstance(node, dict):
            return {key: canonical(value) for key, value in node.items()}
        if isinstance(node, list):
            return [canonical(value) for value in node]
        return ("bool", node) if isinstance(node, bool) else node  # True == 1 in Python

    assert (identity(one) == identity(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize("path", COUNTED)
def test_every_setting_that_counts_changes_it(path):
    assert identity(changed(TREE, path)) != identity(TREE)


@pytest.mark.parametrize("path", NOT_COUNTED)
def test_no_excluded_setting_changes_it(path):
    assert identity(changed(TREE, path)) == identity(TREE)


def test_what_does_not_count_is_this_and_no_more():
    assert set(NOT_COUNTED) == {
        *(path for path in paths(TREE) if path.startswith(("tracking.", "launcher."))),
        *(f"trainer.checkpoint_every_{what}" for what in ("epochs", "steps", "min")),
        *("trainer.workers", "trainer.hang_s", "trainer.progress"),
        *("trainer.keep_last", "trainer.profiler"),
        *("trainer.devices", "trainer.nodes", "trainer.strategy"),
        *("data.keep", "data.channels", "data.path", "data.cache_limit_mb"),
    }
    assert {"seed", "trainer.threads", "trainer.precision", "trainer.device"} <= set(COUNTED)
    assert {"trainer.epochs", "trainer.patience", "examples.batch_size"} <= set(COUNTED)


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_what_is_excluded_exists(pattern):
    assert [path for path in paths(TREE) if path.startswith(pattern)]


def test_a_setting_not_yet_invented_counts():
    assert identity({**TREE, "new": 1}) != identity(TREE)


def test_a_list_in_another_order_is_another_run():
    assert identity({"net": [1, 2]}) != identity({"net": [2, 1]})


def test_a_whole_number_and_its_float_are_one_run():
    assert identity({"seed": 1}) == identity({"seed": 1.0})


def test_true_and_one_are_two_runs():
    assert identity({"seed": True}) != identity({"seed": 1})


def test_neighbouring_floats_are_two_runs():
    assert identity({"head": 0.1}) != identity({"head": 0.1 + 2**-54})


def test_other_data_are_another_run():
    assert identity(TREE, data="e") != identity(TREE)


def test_other_code_is_another_run():
    assert identity(TREE, code="2") != identity(TREE)


def test_the_code_and_the_plugins_are_those_that_the_settings_reach(plugin):
    plugin("x = 1")
    tree = {**TREE, "head": {"_target_": "my_package.part.Head"}}
    reached, mine = code_hash(targets(tree)), plugin_fingerprints(tree)
    assert run_id(tree, "d") == run_id(tree, "d", code=reached, plugins=mine)
    assert run_id(tree, "d") != run_id(tree, "d", code="", plugins=mine)
    assert run_id(tree, "d") != run_id(tree, "d", code=reached, plugins={})
    assert code_versions(targets(tree)) == {"code": reached, **mine}


def test_another_plugin_is_another_run():
    assert identity(TREE, plugins={"mine": "1+a"}) != identity(TREE, plugins={"mine": "1+b"})


def test_hashes_by_name_do_not_depend_on_the_order_of_names():
    assert identity(TREE, data={"a": "1", "b": "2"}) == identity(TREE, data={"b": "2", "a": "1"})


def test_what_repeats_have_in_common_does_not_know_the_seed():
    assert config_hash({**TREE, "seed": 1}) == config_hash({**TREE, "seed": 2})


def test_what_repeats_have_in_common_knows_the_rest():
    assert config_hash(changed(TREE, "trainer.epochs")) != config_hash(TREE)


def test_settings_that_count_are_left_as_they_are():
    assert counted({"net": {"a": [1, {"b": 2}]}}) == {"net": {"a": [1, {"b": 2}]}}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a package of the user's own and gives its fingerprint as a fresh process sees it."""
    from lightning_sep import run_id as module
    from lightning_sep import sources

    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "my_package").mkdir(exist_ok=True)
        (tmp_path / "my_package" / "__init__.py").write_text("")
        (tmp_path / "my_package" / "part.py").write_text(text)
        module.plugin_fingerprint.cache_clear()
        sources._PLUGINS.pop("my_package", None)
        return plugin_fingerprints({"head": {"_target_": "my_package.part.Head"}})["my_package"]

    yield write
    sys.modules.pop("my_package", None)


def test_a_plugins_source_is_part_of_its_fingerprint(plugin):
    assert plugin("x = 1") != plugin("x = 2")


def test_a_plugins_fingerprint_is_that_of_its_files_by_name(plugin, tmp_path):
    plugin("x = 1")
    folder = tmp_path / "my_package"
    for name in ("c", "a", "h", "e", "b", "g", "d", "f"):
        (folder / f"{name}.py").write_text(f"x = '{name}'")
    expected = hashlib.sha256()
    for path in sorted(folder.glob("*.py"), key=lambda one: one.name):
        content = "x = 2" if path.name == "part.py" else path.read_text()
        expected.update(path.name.encode() + b"\0" + hashlib.sha256(content.encode()).digest())
    assert plugin("x = 2") == f"unpackaged+{expected.hexdigest()[:12]}"


def test_the_same_source_has_the_same_fingerprint(plugin):
    assert plugin("x = 1") == plugin("x = 1")


def test_our_own_classes_and_torchs_are_no_plugins():
    nodes = {"a": {"_target_": "torch.nn.Tanh"}, "b": [{"_target_": "lightning_sep.x.Y"}]}
    assert plugin_fingerprints(nodes) == {}


def test_a_plugin_of_an_excluded_group_does_not_count():
    assert plugin_fingerprints({"launcher": {"_target_": "json.decoder.JSONDecoder"}}) == {}


def test_a_plugin_in_a_single_file_has_a_fingerprint(tmp_path, monkeypatch):
    (tmp_path / "one_file_part.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    nodes = {"head": {"inner": [{"_target_": "one_file_part.Head"}]}}
    assert plugin_fingerprints(nodes)["one_file_part"].startswith("unpackaged+")


def test_fault_31_a_source_edited_between_its_hash_and_its_import_is_refused(tmp_path, monkeypatch):
    """What is imported already may be edited: a process computes with what it has."""
    package = tmp_path / "edited_plugin"
    package.mkdir()
    for name in ("__init__", "early", "late"):
        (package / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    tree = {"head": {"_target_": "edited_plugin.early.Head"}}
    plugin_fingerprints(tree)
    import_module("edited_plugin.early")
    refuse_edited(tree)
    for name in ("early", "late"):
        (package / f"{name}.py").write_text("x = 2\n")
    refuse_edited(tree)
    import_module("edited_plugin.late")
    with pytest.raises(ConfigError, match=r"edited_plugin/late\.py was edited after this process"):
        refuse_edited(tree)
