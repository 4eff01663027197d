"""One dialect of refusing a setting: its name, its value, what would work."""

import pytest

from lightning_sep.checks import Arguments, finite_number, one_of, whole_number, yes_or_no
from lightning_sep.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "bounds"),
    [(1, {}), (7, {"odd": True}), (0, {"at_least": 0}), (-3, {"at_least": None})],
)
def test_a_whole_number_that_fits_comes_back(value, bounds):
    assert whole_number("levels", value, **bounds) == value


@pytest.mark.parametrize(
    ("value", "bounds", "told"),
    [
        (0, {}, "levels = 0: a whole number of at least 1 is needed"),
        (1, {"at_least": 2}, "levels = 1: a whole number of at least 2 is needed"),
        (True, {}, "levels = True: a whole number of at least 1 is needed"),
        (1.0, {}, "levels = 1.0: a whole number of at least 1 is needed"),
        ("2", {}, "levels = '2': a whole number of at least 1 is needed"),
        (4, {"odd": True}, "levels = 4: an odd whole number of at least 1 is needed"),
        (None, {"at_least": None}, "levels = None: a whole number is needed"),
        (
            0,
            {"meaning": "net"},
            "levels = 0: a whole number of at least 1 is needed (net)",
        ),
    ],
)
def test_a_whole_number_that_does_not_is_refused(value, bounds, told):
    with pytest.raises(ConfigError) as caught:
        whole_number("levels", value, **bounds)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0.5, {}),
        (1e-300, {"above": 0}),
        (0, {"at_least": 0}),
        (0.0, {"at_most": 0}),
        (0.999, {"at_least": 0, "below": 1}),
    ],
)
def test_a_number_within_its_bounds_comes_back_as_a_float(value, bounds):
    assert repr(finite_number("alpha", value, **bounds)) == repr(float(value))


@pytest.mark.parametrize(
    ("value", "bounds", "told"),
    [
        (0, {"above": 0}, "alpha = 0: a finite number above 0 is needed"),
        (-1e-9, {"at_least": 0}, "alpha = -1e-09: a finite number of at least 0 is needed"),
        (1e-9, {"at_most": 0}, "alpha = 1e-09: a finite number of at most 0 is needed"),
        (
            1.0,
            {"at_least": 0, "below": 1},
            "alpha = 1.0: a finite number of at least 0 and below 1 is needed",
        ),
        (float("nan"), {}, "alpha = nan: a finite number is needed"),
        (float("inf"), {"above": 0}, "alpha = inf: a finite number above 0 is needed"),
        (True, {}, "alpha = True: a finite number is needed"),
        ("big", {"meaning": "per unit"}, "alpha = 'big': a finite number is needed (per unit)"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused(value, bounds, told):
    with pytest.raises(ConfigError) as caught:
        finite_number("alpha", value, **bounds)
    assert str(caught.value) == told


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(ConfigError, match="a finite number is needed"):
        finite_number("alpha", 10**400)


def test_a_word_is_one_of_those_known():
    assert one_of("variant", "best", ("best", "last")) == "best"
    with pytest.raises(ConfigError, match="variant = 'good': known are best, last"):
        one_of("variant", "good", ("best", "last"))


def test_a_truth_value_is_one():
    assert yes_or_no("context", False) is False
    with pytest.raises(ConfigError, match="context = 1: true or false is needed"):
        yes_or_no("context", 1)


class TestArguments:
    def test_that_fit_raise_nothing(self):
        arguments = Arguments("Net")
        arguments.whole("levels", 3, odd=True)
        arguments.number("leak", 0.0, low=0.0, below=1.0)
        arguments.yes_or_no("context", True)
        arguments.one_of("kind", "a", ("a", "b"))
        arguments.check()

    def test_name_the_class_and_the_one_that_does_not(self):
        arguments = Arguments("Net")
        arguments.number("leak", 1.0, low=0.0, below=1.0)
        with pytest.raises(ConfigError, match=r"^Net: leak = 1.0: a finite number .* below 1"):
            arguments.check()

    def test_tell_all_that_do_not_at_once(self):
        arguments = Arguments("Net")
        arguments.whole("levels", 2, at_least=3)
        arguments.yes_or_no("context", "yes")
        arguments.one_of("kind", "c", ("a", "b"))
        arguments.refuse("basis", 3, "an even number is needed")
        with pytest.raises(ConfigError) as caught:
            arguments.check()
        assert str(caught.value).splitlines() == [
            "4 settings of Net cannot be used:",
            "    levels = 2: a whole number of at least 3 is needed",
            "    context = 'yes': true or false is needed",
            "    kind = 'c': known are a, b",
            "    basis = 3: an even number is needed",
        ]
