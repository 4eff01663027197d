"""Sweep files: what they may hold, what is refused and how, and what makes two of them the same."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.sweep import space
from lightning_sep.sweep.definition import Sweep, load_sweep, read_sweep
from lightning_sep.sweep.grid import grid_sweep

HEADER = "from lightning_sep.sweep.definition import Sweep\n"
VALID = HEADER + (
    'SWEEP = Sweep(metric="val/r2", direction="maximize", trials=3, settings=["a=1"])\n'
    "def overrides(trial):\n"
    "    yield f\"head={trial.suggest_categorical('head', ['tanh', 'sine'])}\"\n"
)


def read(source: str, *overrides: str, **options: Any) -> Any:
    return read_sweep(source, "x.py", overrides, name="x", **options)


def test_a_file_gives_its_sweep_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / "heads.py"
    path.write_text(VALID)
    definition = load_sweep(path)
    assert definition.name == "heads"
    assert definition.sweep.trials == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (HEADER + "def overrides(trial\n    pass\n", r"^x\.py, line 2: .*: def overrides\(trial$"),
        (HEADER + "\nSWEEP = Swep()\n", r"^x\.py, line 3: NameError: .*Swep"),
        ("def overrides(trial):\n    yield 'a=1'\n", r"^x\.py: SWEEP = Sweep\(\.\.\.\) is missing"),
        (VALID.split("def ")[0], r"^x\.py: def overrides\(trial\) is missing"),
        (VALID.replace("trials=3", "trials=0"), r"^x\.py, line 2: trials = 0: a whole number"),
        (VALID.replace("trials=3", "trails=3"), r"^x\.py, line 2: TypeError: .*trails"),
        (VALID.replace("val/r2", "test/r2"), r"metric = 'test/r2': a validation metric"),
        (VALID.replace("maximize", "up"), r"direction = 'up': 'maximize' or 'minimize'"),
        (VALID.replace('["a=1"]', '"a=1"'), r"settings = 'a=1': a list"),
        (VALID.replace("trials=3", "trials=3, pruner='median'"), r"pruner = 'median'"),
        (VALID.replace("trials=3", "trials=3, repeats=1.5"), r"repeats = 1\.5: a whole number"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(source)
    assert "\n" not in str(caught.value)


def test_several_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"metric = .*trials = -1.*finalists = -2"):
        Sweep(metric="r2", direction="maximize", trials=-1, finalists=-2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sweep file '.*nowhere\.py'"):
        load_sweep(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("trials=3", "trials=30"),
        ("trials=3", "trials=3, question='What?'"),
        ("def overrides(trial):\n", "def overrides(trial):\n    '''Says.'''\n    # why\n\n"),
        ('"a=1"', "'a=1'"),
    ],
)
def test_the_fingerprint_leaves_out_budget_text_and_layout(before: str, after: str) -> None:
    assert read(VALID.replace(before, after)).fingerprint == read(VALID).fingerprint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'sine'", "'cosine'"),
        ('"a=1"', '"a=2"'),
        ("val/r2", "val/mse"),
        ("maximize", "minimize"),
        ("trials=3", "trials=3, repeats=2"),
        ("trials=3", "trials=3, final_seeds=3"),
    ],
)
def test_the_fingerprint_covers_space_settings_and_objective(before: str, after: str) -> None:
    assert read(VALID.replace(before, after)).fingerprint != read(VALID).fingerprint


def test_the_fingerprint_covers_choices_that_come_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = VALID.replace("['tanh', 'sine']", "__import__('os').environ['HEADS'].split()")
    found = []
    for heads in ("tanh sine", "tanh sine cosine", "tanh sine"):
        monkeypatch.setenv("HEADS", heads)
        found.append(read(source).fingerprint)
    assert found[0] == found[2] != found[1]


def test_the_fingerprint_covers_the_command_line() -> None:
    assert read(VALID, "b=1").fingerprint != read(VALID).fingerprint


def test_what_is_proposed_wins_over_what_is_shared() -> None:
    definition = read(VALID, "a=2", "c=3")
    assert definition.settings(["c=4"], seed=1) == ["a=2", "c=4", "seed=1"]


def test_every_categorical_choice_is_composed_before_any_work() -> None:
    seen: list[list[str]] = []
    assert read(VALID).check(seen.append) == 2
    assert seen == [["a=1", "head=tanh", "seed=0"], ["a=1", "head=sine", "seed=0"]]


def test_a_setting_that_cannot_be_composed_is_named_with_its_trial() -> None:
    def compose(overrides: list[str]) -> None:
        if "head=sine" in overrides:
            raise ConfigError("no head 'sine'")

    with pytest.raises(ConfigError, match=r"^x\.py, trial with head=sine: no head 'sine'"):
        read(VALID).check(compose)


@pytest.mark.parametrize(
    "source", [VALID.replace("a=1", "seed=1"), VALID.replace("head=", "seed=")]
)
def test_a_seed_is_refused_since_the_sweep_chooses_them(source: str) -> None:
    with pytest.raises(ConfigError, match="chooses the seeds itself"):
        read(source).check(lambda overrides: None)


def test_a_command_line_that_fixes_what_is_searched_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"head=tanh: head is searched by x\.py"):
        read(VALID, "head=tanh").check(lambda overrides: None)


def test_a_mistake_in_the_space_is_told_with_its_line() -> None:
    source = VALID + "    yield 1 / 0\n"
    with pytest.raises(ConfigError, match=r"^x\.py, line 5: ZeroDivisionError"):
        read(source).check(lambda overrides: None)


def test_what_is_no_override_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"yielded 'tanh'; text such as 'head=tanh'"):
        read(VALID.replace("head=", "")).check(lambda overrides: None)


@pytest.mark.parametrize("name", ["a/b", "", "..", "-x", "a b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a sweep"):
        read_sweep(VALID, "x.py", name=name)


def grid(*axes: str, **options: Any) -> Any:
    return grid_sweep(axes, metric="val/r2", direction="maximize", **options)


def test_a_grid_is_the_product_of_its_axes() -> None:
    definition = grid("head=tanh,sine", "betas=[0.9,0.99],[0.8,0.9]", "x='a,b',c")
    assert definition.sweep.trials == 8
    found = {tuple(one) for one in space.samples(definition.proposed)}
    assert len(found) == 8
    assert ("head=sine", "betas=[0.8,0.9]", "x='a,b'") in found


def test_a_grid_over_seeds_repeats_each_combination() -> None:
    definition = grid("head=tanh,sine", "seed=0,1,2")
    assert definition.sweep.repeats == 3
    assert definition.sweep.trials == 2


def test_the_same_grid_has_the_same_name_and_another_one_another() -> None:
    assert grid("a=1,2").name == grid("a=1,2").name
    assert grid("a=1,2").name != grid("a=1,3").name


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["head"], "key=value,value"),
        (["head=tanh,"], "key=value,value"),
        (["a=1,2", "a=3,4"], "a is there twice"),
        (["a=1,1"], "a value is there twice"),
        (["a=1,2", "seed=3,4"], "write seed=0,1"),
        ([], "needs at least one"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(axes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(*axes)


def conditional(trial: optuna.trial.BaseTrial) -> Any:
    head = trial.suggest_categorical("head", ["tanh", "softmax"])
    yield f"head={head}"
    if head == "softmax":
        yield f"head.temperature={trial.suggest_float('temperature', 0.5, 1.5, step=0.5)}"
        yield f"layers={trial.suggest_int('layers', 1, 2)}"


def test_a_conditional_space_is_enumerated_branch_by_branch() -> None:
    found = space.points(conditional, limit=10)
    assert found is not None
    assert len(found) == 1 + 3 * 2
    assert found[0].values == {"head": "tanh"}
    assert found[0].overrides == ["head=tanh"]
    values = [tuple(point.values.values()) for point in found[1:]]
    assert values == [("softmax", t, n) for t in (0.5, 1.0, 1.5) for n in (1, 2)]


def test_a_point_comes_back_from_json_as_it_went() -> None:
    for point in space.points(conditional, limit=10) or []:
        assert space.Point.read(json.loads(json.dumps(point.as_json()))) == point


def test_points_replay_as_fixed_trials() -> None:
    for point in space.points(conditional, limit=10) or []:
        assert list(conditional(optuna.trial.FixedTrial(point.values)))


def test_a_continuous_space_and_one_beyond_the_limit_have_no_points() -> None:
    assert space.points(lambda t: [f"x={t.suggest_float('x', 0, 1)}"], limit=100) is None
    assert space.points(conditional, limit=6) is None


def test_samples_of_a_continuous_space_show_every_choice_also_the_hidden_ones() -> None:
    def overrides(trial: optuna.trial.BaseTrial) -> Any:
        kind = trial.suggest_categorical("kind", [str(i) for i in range(40)])
        yield f"kind={kind}"
        yield f"x={trial.suggest_float('x', 1e-4, 1e-1, log=True)}"
        if kind == "7":
            yield f"inner={trial.suggest_categorical('inner', ['a', 'b'])}"

    found = {item for one in space.samples(overrides) for item in one}
    assert {f"kind={i}" for i in range(40)} <= found
    assert {"inner=a", "inner=b"} <= found


def test_a_grid_is_walked_in_an_order_that_only_the_name_decides() -> None:
    first = read(VALID).grid()
    assert first == read(VALID).grid()
    assert sorted(point.values["head"] for point in first) == ["sine", "tanh"]
    typed = [f"x={number}" for number in range(12)]
    axis = f"x={','.join(map(str, range(12)))}"
    one, two = ([point.overrides for point in grid(axis, name=name).grid()] for name in "ab")
    assert sorted(one) == sorted(two) == sorted([item] for item in typed)
    assert [item for [item] in one] != typed, "so that half of it is not half of an axis"
    assert one != two
