"""What every file of ``conf/`` owes: the folder is the list, so a new entry is tested by itself."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from lightning_sep.errors import ConfigError
from lightning_sep.settings import (
    FILLED_IN,
    build,
    compose,
    conf_folders,
    entries,
    groups,
    locate,
)
from lightning_sep.settings.signature import arguments

CONF = conf_folders()[0]
EVERY = [(group, name) for group in groups() for name in entries(group)]


@cache
def chosen(group: str, name: str) -> dict[str, object]:
    """The entry, with the first task that it goes together with."""
    problems = []
    for task in [""] if group == "task" else ["", *(f"task={one}" for one in entries("task"))]:
        try:
            return compose([one for one in (task, f"{group}={name}") if one]).tree[group]
        except ConfigError as error:
            problems.append(error)
    raise problems[0]


def written(group: str, name: str) -> str:
    return Path(CONF, group, f"{name}.yaml").read_text()


@pytest.mark.parametrize(("group", "name"), EVERY)
class TestEveryEntry:
    def test_composes_without_a_problem(self, group, name):
        assert chosen(group, name)["_target_"]

    def test_lists_every_argument_of_its_class(self, group, name):
        node = chosen(group, name)
        known = arguments(locate(node)) or {}
        expected = set(known) - set(FILLED_IN.get(group, ()))
        assert set(node) - {"_target_"} == expected

    def test_is_explained_by_a_comment(self, group, name):
        said = [line for line in written(group, name).splitlines() if "#" in line]
        assert [line for line in said if "@package" not in line]

    def test_holds_no_path_host_or_account(self, group, name):
        assert not re.search(r"[:=]\s*['\"]?(/|~|[A-Z]:\\)\w", written(group, name))


@pytest.mark.parametrize(("group", "name"), [one for one in EVERY if one[0] not in ("net", "task")])
def test_an_entry_that_waits_for_nothing_else_builds(group, name):
    node = chosen(group, name)
    takes = arguments(locate(node)) or {}
    waits_for = {one: 4 for one in FILLED_IN.get(group, ()) if one in takes}
    assert type(build(node, **waits_for)) is locate(node)


@pytest.mark.parametrize("group", groups())
def test_every_group_has_a_default(group):
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    named = [name for one in defaults if isinstance(one, dict) for name in one]
    assert named.count(group) == 1


def test_the_task_is_chosen_last_so_that_it_can_choose_for_others():
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    assert [next(iter(one)) for one in defaults if isinstance(one, dict)][-1] == "task"


@pytest.mark.parametrize("name", entries("task"))
def test_what_a_task_chooses_by_default_exists(name):
    choices = compose([f"task={name}"]).choices
    assert [group for group in groups() if choices[group] not in entries(group)] == []
