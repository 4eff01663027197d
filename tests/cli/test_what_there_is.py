"""What fits, what can be set and what was probably meant: said before anybody has to look it up."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lightning_sep
from lightning_sep.cli import main
from lightning_sep.errors import ConfigError
from lightning_sep.settings import compose, contents, entries, groups
from lightning_sep.settings.about import about
from lightning_sep.settings.file import read_settings
from lightning_sep.sweep.choices import heads_for

CHECKOUT = Path(lightning_sep.__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.removeprefix("lightning-sep: error: ").strip()


@pytest.mark.parametrize(
    ("settings", "listed"),
    [
        ("task=verification head=tanh", "Heads for verification: prelu, softmax, softplus, unit"),
        ("task=separation net=blstm_small", "Nets for separation: sudo_rm_rf, sudo_rm_rf_small,"),
        ("task=autoregression loss=kl_hinge", "Losses for autoregression: mse"),
    ],
)
def test_what_does_not_fit_lists_what_does(capsys, settings, listed):
    told = refused(capsys, "train", *settings.split())
    assert told.startswith(f"{settings.split()[1]} does not serve {settings.split()[0]}. ")
    assert listed in told


def test_a_sweep_refuses_what_does_not_fit_before_any_work(capsys, folder):
    told = refused(capsys, "sweep", "--grid", "head=tanh,softmax", "tracking=none")
    assert "head=softmax does not serve task=separation. Heads for separation: clip_at" in told
    assert not (folder / "runs").exists()


def test_heads_for_a_task_are_those_that_its_class_takes():
    assert heads_for("verification") == ("prelu", "softmax", "softplus", "unit_sphere")
    assert len(heads_for("separation")) == 10


def test_help_beside_an_entry_tells_each_setting(capsys):
    assert main(["train", "head=softmax", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("head=softmax: embeddings as probabilities")
    assert "head.temperature=1.0   (a finite number)\n        divides the raw values;" in told
    assert told.endswith("`lightning-sep train --help` tells of the command itself\n")
    assert len(told.splitlines()) == 5  # nothing that was not asked for


def test_help_beside_a_task_lists_what_goes_with_it(capsys):
    assert main(["train", "task=verification", "--help"]) == 0
    told = capsys.readouterr().out
    assert "brings net=blstm_small head=softmax loss=kl_hinge examples=snippets" in told
    assert re.search(r"head= +prelu softmax softplus unit_sphere", told)


@pytest.mark.parametrize("group", groups())
def test_every_setting_of_every_entry_has_a_line(group):
    for name in entries(group):
        told = about(group, name)
        assert re.match(rf"{group}={name}: \S", told[0]), told
        [node] = contents([f"{group}/{name}"])[f"{group}/{name}"]
        keys = set(node.get(group, node)) - {"_target_", "defaults"}
        settings = [re.match(rf"    {group}\.(\w+)=", line) for line in told]
        assert {one[1] for one in settings if one} == keys


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trian", "no command 'trian'. Did you mean 'train'?"),
        ("train head=tahn", "no head 'tahn' in conf/head. Did you mean 'tanh'?"),
        ("train model=lstm", "no group or setting 'model'. Did you mean 'net'?"),
        ("train epohcs=3", "no group or setting 'epohcs'. Did you mean 'trainer.epochs'? Known: "),
        ("train lr=0.1", "Did you mean 'optimizer.learning_rate'?"),
        ("train optimizer.lr=1", "not a setting of optimizer=adam. Did you mean 'learning_rate'?"),
        ("train --print-modl", "unknown argument: --print-modl. Did you mean '--print-model'?"),
        ("status --jsn", "Did you mean '--json'?"),
        ("train -m head=tanh,sine", "Several values are a sweep: `lightning-sep sweep --grid"),
        ("train --cfg job", "`--print-config` shows the composed settings."),
    ],
)
def test_what_was_meant_is_said(capsys, words, told):
    assert told in refused(capsys, *words.split())


@pytest.mark.parametrize(
    "words", ["train head=tahn", "train trainer.epochs=many", "sweep nothing.py"]
)
def test_a_typo_is_answered_without_torch(words):
    code = f"""
import sys
from lightning_sep.cli import main
main({words.split()!r})
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_gives_way_to_a_later_setting_is_said(capsys):
    assert main(["train", "head=tanh", "head=sine", "--print-config"]) == 0
    told = capsys.readouterr()
    assert "Sine" in told.out
    assert "lightning-sep: head=tanh gives way to head=sine\n" in told.err


OWN = [
    "task=autoregression", "head=mu_law_softmax", "reweighting=class_bias", "tracking=none",
    "reweighting.gamma={speech: 3.5}", "optimizer.betas=[0.8,0.99]", "net=lstm_small", "seed=5",
]  # fmt: skip


def printed(capsys, *arguments: str) -> str:
    assert main(["train", *arguments, "--print-config"]) == 0
    return capsys.readouterr().out


def test_settings_that_do_not_go_together_are_not_printed(folder, capsys):
    assert main(["train", "task=verification", "head=tanh", "--print-config"]) == 2
    assert "head=tanh does not serve task=verification" in capsys.readouterr().err


def test_the_composed_settings_are_printed_and_taken_back_with_the_same_id(folder, capsys):
    text = printed(capsys, *OWN)
    assert re.match(r"# run [0-9a-f]{12}: not begun\n", text)
    assert yaml.safe_load(text) == compose(OWN).tree
    (folder / "mine.yaml").write_text(text)
    assert printed(capsys, "--config", "mine.yaml") == text
    assert not (folder / "runs").exists()
    other = yaml.safe_load(printed(capsys, "--config", "mine.yaml", "seed=6", "head=sine"))
    assert (other["seed"], other["head"]["_target_"].split(".")[-1]) == (6, "Sine")
    assert {key: other[key] for key in other if key not in ("seed", "head")} == {
        key: value for key, value in compose(OWN).tree.items() if key not in ("seed", "head")
    }


def test_settings_in_a_file_are_told_as_entries_and_what_differs(folder):
    (folder / "mine.yaml").write_text(yaml.safe_dump(compose(OWN).tree))
    told = read_settings(folder / "mine.yaml")
    assert {"task=autoregression", "head=mu_law_softmax", "net=lstm_small", "seed=5"} <= set(told)
    differing = {one for one in told if "." in one.partition("=")[0]}
    assert differing == {"reweighting.gamma={speech:3.5}", "optimizer.betas=[0.8,0.99]"}
    other = read_settings(folder / "mine.yaml", ["reweighting=uniform", "optimizer.betas=[0,0.9]"])
    assert [one for one in other if "." in one.partition("=")[0]] == ["optimizer.betas=[0,0.9]"]
    assert [one for one in other if one.startswith("reweighting")] == ["reweighting=uniform"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("head: [", "cannot be read"),
        ("just words", "holds no settings"),
        ("haed: {}", "haed: no such group or setting. Did you mean 'head'?"),
        ("head: {_target_: mine.Wobble}", "no entry in conf/head has _target_ = 'mine.Wobble'"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(folder, capsys, text, told):
    if text is not None:
        (folder / "mine.yaml").write_text(text)
    assert told in refused(capsys, "train", "--config", "mine.yaml")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lightning-sep st", ["status", "stop"]),
        ("lightning-sep train head=ta", ["head=tanh", "head=tanh_cross_entropy"]),
        ("lightning-sep train optimizer=adam optimizer.w", ["optimizer.weight_decay="]),
        ("lightning-sep sweep --grid head=tanh,si", ["head=tanh,sine"]),
        ("lightning-sep train --print-c", ["--print-config"]),
        ("lightning-sep compare 00", ["00aa"]),
        ("lightning-sep status 00", ["00aa"]),
        ("lightning-sep separate qu", ["quick"]),
    ],
)
def test_what_can_stand_next_is_known(home, capsys, line, found):
    for place in ("sweeps/quick/sweep.json", "00aa/record.json"):
        (home / place).parent.mkdir(parents=True)
        (home / place).write_text("{}")
    assert main(["completion", "words", "--", line]) == 0
    assert capsys.readouterr().out.split() == found


def test_bash_completes_behind_the_equals_sign_too():
    line = "lightning-sep train head=ta"
    script = f"""
lightning-sep() {{ {shlex.quote(sys.executable)} -m lightning_sep "$@"; }}
source <(lightning-sep completion bash)
COMP_LINE={line!r} COMP_POINT={len(line)}
_lightning_sep
echo "${{COMPREPLY[@]}}"
"""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "tanh tanh_cross_entropy\n"


def test_a_range_is_answered_with_values_and_not_with_itself(capsys):
    told = refused(capsys, "sweep", "--grid", "optimizer.learning_rate=range(1,3)")
    assert told.endswith("sweep --grid optimizer.learning_rate=1,2")


def test_a_sweep_without_a_file_tells_which_there_are(capsys, folder):
    assert refused(capsys, "sweep", "margin").startswith("margin: a sweep's file (.py) or --grid")
    (folder / "sweeps").mkdir()
    for name in ("margin", "heads"):
        (folder / "sweeps" / f"{name}.py").touch()
    assert "Did you mean 'sweeps/margin.py'?" in refused(capsys, "sweep", "margin")
    told = refused(capsys, "preflight", "README.md")
    assert "Known: sweeps/heads.py, sweeps/margin.py; see `lightning-sep preflight -" in told


def test_an_archive_is_not_called_like_a_table(capsys, folder):
    told = refused(capsys, "export", "heads", "--out", "b.csv")
    assert told == "--out b.csv: an archive is a .zip; --csv b.csv writes what its name says"
    assert refused(capsys, "verify", ".") == "no archive .: `lightning-sep export` writes one"


def test_settings_from_python_are_a_list_and_no_text():
    with pytest.raises(ConfigError, match=r"settings are a list: \['head=tanh'\]"):
        compose("head=tanh")
