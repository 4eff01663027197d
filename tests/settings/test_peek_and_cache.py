"""What is known before torch is imported; entries that are read once until they change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError
from lightning_sep.settings import compose, composition, environment, overrides, peek

ROOT = Path(__file__).parents[2]
ENTRY = "_target_: torch.nn.Softshrink\nlambd: {}\n"
OVERRIDES = [
    *("task=separation", "task=autoregression", "task=verification", "task=none"),
    *("head=tanh", "head=mu_law_softmax", "head.levels=64", "head.levels=2.5", "head=tahn"),
    *("net=lstm_small", "net=wave_unet_small", "net.levels=2", "net.levels=${seed}"),
    *("reweighting=loss_softmax", "reweighting.alpha=0.1", "reweighting.alpha=big"),
    *("optimizer.betas=[0,0.5]", "optimizer.betas=[1]", "optimizer.learning_rate=1"),
    *("seed=3", "seed=${trainer.epochs}", "trainer.epochs=7", "trainer.epochs=null"),
    *("data=folder", "data.path=${oc.env:HOME}", "tracking.project=${data.path}", "oops", "a=b,c"),
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A head of the user's own, whose setting can be written anew."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf" / "head" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(ENTRY.format(0.5))
    return path


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout


def test_peeking_shows_values_as_typed_and_imports_no_part():
    told = in_a_fresh_process(
        "import sys; from lightning_sep.settings import peek\n"
        "tree = peek(['trainer.epochs=many', 'task=autoregression'])\n"
        "print(tree['trainer']['epochs'], tree['examples']['frame_samples'])\n"
        "print('torch' in sys.modules)"
    )
    assert told.split() == ["many", "64", "False"]


def test_a_misspelt_setting_is_answered_without_torch():
    told = in_a_fresh_process(
        "import sys; from lightning_sep.settings import compose\n"
        "for wrong in ['head=tahn'], ['optimizer.lr=1'], ['head=tahn', 'trainer.epochs=big']:\n"
        "    try: compose(wrong)\n"
        "    except ValueError as error: print(len(str(error).splitlines()), end=' ')\n"
        "print('torch' in sys.modules)"
    )
    assert told.split() == ["1", "1", "3", "False"]


@pytest.mark.parametrize("overrides", [["task=nothing"], ["net.leak=${oc.env:HOME}"]])
def test_peeking_at_what_cannot_be_composed_shows_nothing(overrides):
    assert peek(overrides) == {}


def test_peeking_into_a_folder_that_is_none_shows_nothing(tmp_path):
    assert peek([], tmp_path / "nowhere") == {}


def test_peeking_beside_a_wrong_choice_shows_the_rest():
    assert peek(["head=tahn", "trainer.epochs=7"])["trainer"]["epochs"] == 7


def test_entries_are_read_once_for_the_same_choices():
    compose(["seed=1"])
    before = composition._entries_together.cache_info().misses
    trees = [compose([f"seed={seed}", "trainer.epochs=9"]).tree for seed in (2, 3)]
    assert composition._entries_together.cache_info().misses == before
    assert [tree["seed"] for tree in trees] == [2, 3]


def answer(given: list[str]) -> object:
    """What composing comes to: a tree and its choices, or what is wrong."""
    try:
        made = compose(given)
    except ConfigError as error:
        return str(error)
    return made.tree, made.choices


def anew(given: list[str]) -> object:
    """The same, with nothing kept and nothing exchanged: Hydra reads and composes everything."""
    with pytest.MonkeyPatch.context() as patched:
        for room, name in [
            (composition, "_entries_together"),
            (composition, "_by_hydra"),
            (overrides, "_parsed"),
            (environment, "functions"),
        ]:
            patched.setattr(room, name, getattr(room, name).__wrapped__)
        patched.setattr(composition, "_exchanged", lambda *_: None)
        return answer(given)


@given(st.lists(st.sampled_from(OVERRIDES), max_size=5, unique=True))
@tried(max_examples=25, deadline=None)
def test_what_is_kept_changes_no_answer(given):
    assert answer(given) == anew(given)


def test_another_plain_entry_is_exchanged_without_hydra(monkeypatch):
    compose(["task=autoregression"])
    monkeypatch.setattr("hydra.compose", None)
    given = ["task=autoregression", "head=sine", "reweighting=loss_softmax", "loss=si_snr"]
    made = compose(given)
    monkeypatch.undo()
    assert (made.tree, made.choices) == anew(given)
    assert made.choices["head"] == "sine"


OWN = {
    "task/mine.yaml": """# @package _global_
defaults:
  - override /net: wave_unet_small
  - _self_
task:
  _target_: lightning_sep.tasks.separation.Separation
  sources: 2
  level: mixture
  difference: false
net:
  levels: 2
""",
    "net/other.yaml": "defaults:\n  - wave_unet_small\n  - _self_\nlevels: 3\n",
    "head/tanh_here.yaml": "# @package net\nlevels: 4\n",
    "loss/torn.yaml": "_target_: [\n",
    "loss/listed.yaml": "- 1\n",
    "loss/nothing.yaml": "",
    "optimizer/adam.yaml": "_target_: torch.optim.Adam\n",
}


@pytest.mark.parametrize(
    "given",
    [
        ["task=mine", "net=wave_unet_small"],  # the task goes on to set levels
        ["task=mine", "net=wave_unet", "head=sine"],
        ["task=mine", "head=sine"],
        ["net=other", "head=sine"],
        ["net=other", "net=wave_unet_small"],
        ["head=tanh_here"],
        ["head=tanh_here", "net=wave_unet"],
        ["loss=torn"],
        ["loss=listed"],
        ["loss=nothing"],
        ["optimizer=adam"],
        ["head=sine"],
        ["head=sine", "head=tanh"],
    ],
)
def test_entries_of_ones_own_are_composed_as_hydra_does(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for name, text in OWN.items():
        if name != "optimizer/adam.yaml" or "optimizer=adam" in given:
            (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "conf" / name).write_text(text)
    assert answer(given) == anew(given)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("# @package _global_\ndefaults:\n  - override /net: lstm\n  - _self_\nseed: 1\n", True),
        ("# @package _global_\n", True),
        ("defaults:\n  - override /net: lstm\n", False),  # it writes under its own group
        ("# @package head\nlevels: 1\n", False),
        ("# @package _global_\nhead:\n  levels: 1\n", False),
        ("# @package _global_\ndefaults:\n  - override /net: ${head}\n", False),
        ("# @package _global_\ndefaults:\n  - /net@head.inner: lstm\n", False),
        ("# @package _global_\ndefaults:\n  - optional net: lstm\n", False),
        ("# @package _global_\ndefaults:\n  - other\n", False),
        ("# @package _global_\ndefaults:\n  - net: [lstm]\n", False),
    ],
)
def test_a_file_that_may_write_to_a_group_is_left_to_hydra(tmp_path, text, alone):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert composition._leaves_alone(path, frozenset({"head"}), ()) is alone


def test_a_value_does_not_stay_in_what_is_kept():
    compose(["optimizer.learning_rate=0.5", "optimizer.betas=[0,0]"])
    optimizer = compose().tree["optimizer"]
    assert (optimizer["learning_rate"], optimizer["betas"]) == (0.001, [0.9, 0.999])


def test_a_tree_that_is_changed_does_not_change_the_next():
    compose().tree["optimizer"]["betas"].append(1)
    assert compose().tree["optimizer"]["betas"] == [0.9, 0.999]


def test_an_entry_that_is_edited_is_read_again(own):
    assert compose(["head=mine"]).tree["head"]["lambd"] == 0.5
    own.write_text(ENTRY.format(0.25))
    assert compose(["head=mine"]).tree["head"]["lambd"] == 0.25


def test_an_entry_of_the_same_size_is_read_again_by_its_time(own):
    compose(["head=mine"])
    before = own.stat()
    own.write_text(ENTRY.format(0.7))
    os.utime(own, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert own.stat().st_size == before.st_size
    assert compose(["head=mine"]).tree["head"]["lambd"] == 0.7


def test_a_new_entry_is_seen(own):
    with pytest.raises(ConfigError, match="no head 'other'"):
        compose(["head=other"])
    own.with_name("other.yaml").write_text(ENTRY.format(0.125))
    assert compose(["head=other"]).tree["head"]["lambd"] == 0.125


def test_an_entry_that_comes_to_hide_one_of_ours_is_noticed(own):
    compose(["head=tanh"])
    own.with_name("tanh.yaml").write_text(ENTRY.format(0.5))
    with pytest.raises(ConfigError, match="Give your own another name"):
        compose(["head=tanh"])
