"""Who breaks a board's protocol stands apart with the reason, and changes no other row."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.board import load_boards
from lightning_sep.leaderboard.document import as_json
from lightning_sep.leaderboard.protocol import EQUAL, protocol_of
from lightning_sep.leaderboard.table import plain, skipped_text
from lightning_sep.record import write_record

SEPARATION = "test/si_sdr_improvement_db"
SEEDS = range(1000, 1005)
ENVIRONMENT = {
    "device": "cpu",
    "threads": 1,
    "python": "3.11.7",
    "code_hash": "c0de" * 16,
    "uncommitted_hash": None,
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
}


def seal(folder: Path, **changes: Any) -> None:
    """Write a run's record anew, with hashes that fit."""
    record = json.loads((folder / "record.json").read_text()) | changes
    del record["format"]
    (folder / "record.json").unlink()
    examples = folder / "test_examples.json"
    hashed = hashlib.sha256(examples.read_bytes()).hexdigest() if examples.exists() else None
    write_record(folder, record | {"hashes": {"examples": hashed}})


def edit(folder: Path, old: str, new: str, name: str = "record.json") -> None:
    """Change text of a file as a hand does, whatever its hash says."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


@pytest.fixture
def three(home):
    """Three settings with five sealed runs each; ``tanh1002`` is the one to spoil."""
    for place, head in enumerate(("sine", "tanh", "cosine")):
        for seed in SEEDS:
            generator = np.random.default_rng([place, seed])
            values = 5.0 + place + generator.normal(0, 1, 40)
            monitor = {"name": "val/x", "mode": "max", "value": 5.0 - place, "epoch": 1}
            more = {"head": head, "seed": seed, "monitor": monitor, "environment": ENVIRONMENT}
            seal(home.separation(f"{head}{seed}", values, **more))
    return home


def other_environment(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: seal(folder, environment=ENVIRONMENT | changes)


def edited_metric(folder: Path) -> None:
    edit(folder, f'"{SEPARATION}": ', f'"{SEPARATION}": 1')


def edited_example(folder: Path) -> None:
    examples = json.loads((folder / "test_examples.json").read_text())
    examples[SEPARATION][3] += 3
    (folder / "test_examples.json").write_text(json.dumps(examples))


def edited_example_and_hash(folder: Path) -> None:
    edited_example(folder)
    seal(folder)


def edited_metric_and_hash(folder: Path) -> None:
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    seal(folder, metrics=metrics | {SEPARATION: 14.48})


def without_examples(folder: Path) -> None:
    (folder / "test_examples.json").unlink()


def without_examples_and_hash(folder: Path) -> None:
    without_examples(folder)
    seal(folder, examples_file=None)


def fewer_examples(folder: Path) -> None:
    values = json.loads((folder / "test_examples.json").read_text())[SEPARATION][:30]
    (folder / "test_examples.json").write_text(json.dumps({SEPARATION: values}))
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    seal(folder, metrics=metrics | {SEPARATION: float(np.mean(values))})


def of_format_1(folder: Path) -> dict[str, Any]:
    """A run's record as it was before there were hashes."""
    record = json.loads((folder / "record.json").read_text()) | {"format": 1}
    del record["hashes"]
    (folder / "record.json").write_text(json.dumps(record))
    return record


def doubled(folder: Path) -> None:
    """Two records of format 1, which know no hash, with one id and other numbers."""
    record = of_format_1(folder)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    record["metrics"][SEPARATION] += 3
    (copy / "record.json").write_text(json.dumps(record))


def failed(folder: Path) -> None:
    record = {"state": "failed", "error": "diverged", "metrics": {}, "examples_file": None}
    (folder / "test_examples.json").unlink()
    seal(folder, **record)


def failed_seeds(folder: Path) -> None:
    failed(folder)
    failed(folder.with_name("tanh1004"))


def one_seed_left(folder: Path) -> None:
    for seed in (1001, 1002, 1003, 1004):
        failed(folder.with_name(f"tanh{seed}"))


def torn(folder: Path) -> None:
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text[: len(text) // 2])


def of_another_run(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copy(folder.with_name("sine1002") / name, folder / name)


def changed_examples(change: Callable[[list[Any]], Any], *lists: str) -> Callable[[Path], None]:
    """Values per example, and numbers of the examples, with hashes and score that fit."""

    def spoil(folder: Path) -> None:
        scores = json.loads((folder / "test_examples.json").read_text())[SEPARATION]
        kept = {SEPARATION: scores, "test/index": list(range(len(scores)))}
        kept |= {name: change(kept[name]) for name in lists}
        (folder / "test_examples.json").write_text(json.dumps(kept))
        seal(folder)

    return spoil


def sealed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: seal(folder, **changes)


def other_settings(folder: Path) -> None:
    settings = json.loads((folder / "record.json").read_text())["settings"]
    seal(folder, settings=settings | {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}})


def score_without_square(folder: Path) -> None:
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    seal(folder, metrics=metrics | {SEPARATION: 1e200})


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "edited metric": (edited_metric, "was changed after it was written"),
    "edited metric, hash mended": (edited_metric_and_hash, "its record says 14.48"),
    "edited example": (edited_example, "test_examples.json was changed after it was written"),
    "edited example, hash mended": (edited_example_and_hash, "the mean of its test examples is"),
    "examples gone": (without_examples, "test_examples.json is not there"),
    "examples never there": (without_examples_and_hash, "no values per mixture"),
    "other examples": (fewer_examples, "tested on other mixtures"),
    "other code": (other_environment(code_hash="beef" * 16), "code beefbeefbeef"),
    "dirty code": (other_environment(uncommitted_hash="d1"), "uncommitted code (changes d1)"),
    "other torch": (other_environment(versions={"torch": "1.0"}), "torch 1.0, this board's is 2"),
    "other python": (other_environment(python="3.14.0"), "python 3.14.0, this board's is 3.11.7"),
    "other ranks": (other_environment(ranks=2), "ranks 2, this board's is 1"),
    "other threads": (other_environment(threads=64), "threads 64, this board's is 1"),
    "other device": (other_environment(device="NVIDIA"), "device NVIDIA, this board's is cpu"),
    "doubled id": (doubled, "run tanh1002 has another record with other content, in"),
    "failed seed": (failed, "seed 1002 failed: diverged"),
    "failed seeds": (failed_seeds, "seed 1002 failed: diverged"),
    "one seed left": (one_seed_left, "seed 1002 failed: diverged"),
    "other data": (lambda folder: seal(folder, data={"synthetic": "0ther"}), "data synthetic 0the"),
    "newer format": (lambda folder: edit(folder, '"format": 2', '"format": 9'), "record format 9"),
    "torn record": (torn, "torn or damaged"),
    "hashes disowned": (
        lambda folder: edit(folder, '"format": 2', '"format": 1'),
        "says format 1, which has no hashes",
    ),
    "folder renamed": (
        lambda folder: folder.rename(folder.with_name("other")),
        "is the record of run tanh1002",
    ),
    "record of another run": (of_another_run("record.json"), "is the record of run sine1002"),
    "examples of another run": (of_another_run("test_examples.json"), "json was changed after"),
    "examples in another order": (
        changed_examples(lambda one: one[::-1], SEPARATION, "test/index"),
        "tested on other mixtures",
    ),
    "examples renamed": (
        changed_examples(lambda one: [f"a{n}" for n in one], "test/index"),
        "tested on other mixtures",
    ),
    "examples without names": (
        changed_examples(lambda one: [[n] for n in one], "test/index"),
        "called neither by numbers nor by names",
    ),
    "examples of words": (
        changed_examples(lambda one: ["a" for _ in one], SEPARATION),
        "its values per example are no numbers: could not convert",
    ),
    "examples of lists": (
        changed_examples(lambda one: [[n] for n in one], SEPARATION),
        "its values per example are no numbers but lists",
    ),
    "examples of another place": (
        sealed(examples_file="/dev/zero"),
        "names '/dev/zero', which is no file of its folder",
    ),
    "examples that are no name": (sealed(examples_file=[5]), "names [5], which is no file"),
    "checkpoints without names": (sealed(checkpoints=[5]), "has lost fields"),
    "other settings": (
        other_settings,
        "other settings than the row's other runs (optimizer._target_, optimizer.lr)",
    ),
    "other monitor": (
        sealed(monitor={"name": "val/loss", "mode": "min", "value": 1e3}),
        "monitors val/loss (min), this board's runs val/x (max)",
    ),
    "other direction": (
        sealed(monitor={"name": "val/x", "mode": "min", "value": 4.0}),
        "monitors val/x (min), this board's runs val/x (max)",
    ),
    "other seed": (sealed(seed=1003), "seed 1003, its settings say 1002"),
    "seed that is no number": (sealed(seed=1002.0), "seed 1002.0 is no whole number"),
    "unknown state": (sealed(state="asleep"), "state 'asleep' is none of failed, pruned, finished"),
    "unknown purpose": (sealed(purpose="fun"), "purpose 'fun' is none of single, search, final"),
    "pruned": (sealed(state="pruned", error="gave way"), "seed 1002 pruned: gave way"),
    "score without a square": (score_without_square, "its record has no finite test/si_sdr"),
    "foreign fields": (lambda folder: seal(folder, metrics=[1, 2]), "metrics is not an object"),
    "control characters in a name": (
        lambda folder: seal(folder, data={"\x1b]0;a\x07": "1"}),
        "data \x1b]0;a\x07 1, this board's is synthetic",
    ),
    "control characters": (
        lambda folder: seal(folder, environment=ENVIRONMENT | {"device": "\x1b[31mcpu"}),
        "device \x1b[31mcpu, this board's is cpu",
    ),
}
LEFT = {"failed seeds": 3, "one seed left": 1}  # of five; else all but the spoilt one


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_named_and_changes_no_other_row(three, name: str) -> None:
    before = as_json(load_boards(three.path))["boards"][0]
    spoil, reason = SPOILT[name]
    spoil(three.path / "tanh1002")
    found = load_boards(three.path)
    after = as_json(found)["boards"][0]
    kept = [row for row in before["rows"] if row["name"] != "head=tanh"]
    for row in (*kept, *after["rows"]):  # two settings have no third rank
        row.pop("rank_low"), row.pop("rank_high"), row.pop("place")
    assert after["rows"] == kept
    (apart,) = after["apart"]
    assert apart["name"] == "head=tanh"
    assert apart["reasons"][0].startswith(f"{LEFT.get(name, 4)} of 5 fresh seeds")
    said = [*apart["reasons"], *(f"{skip.folder}: {skip.reason}" for skip in found.skipped)]
    (named,) = {one for one in said if reason in one and "copy:" not in one}
    assert "1002" in named
    listed = json.loads(json.dumps(as_json(found)))  # as the command prints it
    in_json = [*listed["boards"][0]["apart"][0]["reasons"]]
    in_json += [f"{one['folder']}: {one['reason']}" for one in listed["skipped"]]
    assert named in in_json
    table = " ".join((plain(found) + skipped_text(found)).split())
    assert f"head=tanh: {'; '.join(apart['reasons'])}" in table
    assert " ".join(named.partition(": ")[2].split()) in table


def test_what_is_spoilt_reaches_a_terminal_without_control_characters(three) -> None:
    SPOILT["control characters"][0](three.path / "tanh1002")
    from io import StringIO

    from lightning_sep.terminal import PlainStream

    stream = StringIO()
    PlainStream(stream).write(plain(load_boards(three.path)))
    assert "\x1b" not in stream.getvalue()
    assert "device \\x1b[31mcpu" in stream.getvalue()


def test_a_seed_run_twice_is_named_where_the_other_one_counts(three) -> None:
    values = np.random.default_rng(0).normal(9, 1, 40)
    more = {"head": "tanh", "seed": 1002, "environment": ENVIRONMENT | {"threads": 64}}
    monitor = {"name": "val/x", "mode": "max", "value": 4.0, "epoch": 1}
    seal(three.separation("again", values, monitor=monitor, **more))
    board = load_boards(three.path).boards[0]
    assert [len(row.scores) for row in board.rows] == [5, 5, 5]
    assert board.notes == ["Not counted: seed 1002 (run again): threads 64, this board's is 1."]


@pytest.mark.parametrize("newer", ["sine", "tanh"])
def test_of_two_machines_that_made_as_many_runs_the_newest_counts(home, newer: str) -> None:
    for head, threads in (("sine", 1), ("tanh", 2)):
        finished = "2026-03-02" if head == newer else "2026-03-01"
        more = {"environment": ENVIRONMENT | {"threads": threads}, "finished": finished}
        home.write(head, head=head, metrics={SEPARATION: 1.0}, **more)
    (board,) = load_boards(home.path).boards
    assert [row.name for row in board.rows] == [f"head={newer}"]


def test_what_most_runs_do_not_say_keeps_no_run_out(home) -> None:
    for head, environment in (("sine", {}), ("tanh", {}), ("cosine", {"threads": 2})):
        home.write(head, head=head, metrics={SEPARATION: 1.0}, environment=environment)
    assert len(load_boards(home.path).boards[0].rows) == 3


def test_a_further_seed_of_one_setting_is_not_asked_of_the_others(three) -> None:
    before = [row.interval for row in load_boards(three.path).boards[0].rows]
    folder = three.path / "tanh1005"
    shutil.copytree(three.path / "tanh1002", folder)
    settings = json.loads((folder / "record.json").read_text())["settings"] | {"seed": 1005}
    seal(folder, run_id="tanh1005", seed=1005, settings=settings)
    rows = load_boards(three.path).boards[0].rows
    assert [len(row.scores) for row in rows] == [5, 5, 6]
    assert [row.interval for row in rows][:2] == before[:2]


def test_one_seed_left_is_not_a_score(three) -> None:
    for seed in (1000, 1001, 1002, 1003):
        failed(three.path / f"cosine{seed}")
    board = load_boards(three.path).boards[0]
    assert [row.name for row in board.rows] == ["head=sine", "head=tanh"]
    assert board.apart[0].reasons[0] == "1 of 5 fresh seeds finished"


def test_a_run_that_its_sweep_lists_is_named_once(three) -> None:
    finals = three.path / "sweeps" / "bounded_heads" / "finals"
    finals.mkdir(parents=True)
    for folder in three.path.glob("*10*"):
        said = {"run_id": folder.name, "trial": None, "seed": int(folder.name[-4:])}
        (finals / f"{folder.name}.json").write_text(json.dumps(said))
    SPOILT["other threads"][0](three.path / "tanh1002")
    (apart,) = load_boards(three.path).boards[0].apart
    assert apart.reasons == [
        "4 of 5 fresh seeds count",
        "seed 1002 (run tanh1002): threads 64, this board's is 1",
    ]
    shutil.rmtree(three.path / "tanh1002")
    for seed in (1, 2):
        final = {"run_id": f"gone{seed}", "trial": 7, "seed": seed}
        state = "finished" if seed == 1 else "failed"  # which may leave no record
        (finals / f"gone{seed}.json").write_text(json.dumps(final | {"state": state}))
    (finals / "tanh1002.json").write_text('{"run_id": ["tanh1002"], "trial": 2, "state": 1}')
    assert load_boards(three.path).boards[0].notes == [
        "Listed by the sweep, without a record that can be used: seed 1 of trial 7 (run gone1)."
    ]


def test_code_that_all_share_is_ranked_and_named_if_no_commit_holds_it(three) -> None:
    for folder in three.path.glob("*0*"):
        seal(folder, environment=ENVIRONMENT | {"uncommitted_hash": "d1"})
    board = load_boards(three.path).boards[0]
    assert len(board.rows) == 3
    assert any("no commit holds (changes d1)" in note for note in board.notes)


def test_two_records_of_one_id_that_agree_count_once(three) -> None:
    folder = three.path / "tanh1002"
    of_format_1(folder)
    shutil.copytree(folder, three.path / "copy")
    found = load_boards(three.path)
    assert not found.skipped
    assert [len(row.scores) for row in found.boards[0].rows] == [5, 5, 5]


class TestFile:
    def write(self, folder: Path, text: str, name: str = "mine") -> None:
        (folder / "board").mkdir(exist_ok=True)
        (folder / "board" / f"{name}.yaml").write_text(text)

    def test_our_own_default_compares_everything(self) -> None:
        found = protocol_of("any")
        assert found.equal == EQUAL
        assert {"torch", "numpy", "lhotse"} <= set(found.versions)
        assert (found.seeds, found.committed) == (None, False)

    def test_a_sweeps_own_file_changes_only_what_it_says(self, tmp_path: Path) -> None:
        self.write(tmp_path, "equal: [data]\nseeds: 3\n", "default")
        self.write(tmp_path, "seeds: 7\n")
        assert (protocol_of("mine", [tmp_path]).seeds, protocol_of("mine", [tmp_path]).equal) == (
            7,
            ("data",),
        )
        assert protocol_of("other", [tmp_path]).seeds == 3

    def test_it_decides_what_is_ranked(self, three, tmp_path: Path, monkeypatch) -> None:
        folder = tmp_path / "conf"
        folder.mkdir()
        monkeypatch.chdir(tmp_path)
        SPOILT["other threads"][0](three.path / "tanh1002")
        assert len(load_boards(three.path).boards[0].rows) == 2
        self.write(folder, "equal: [data, code]\n", "bounded_heads")
        assert len(load_boards(three.path).boards[0].rows) == 3
        self.write(folder, "seeds: 6\n", "bounded_heads")
        assert load_boards(three.path).boards[0].rows == []
        self.write(folder, "data: {synthetic: ffff}\n", "bounded_heads")
        reasons = load_boards(three.path).boards[0].apart[0].reasons
        assert "data synthetic d41d8cd98f00, this board's is synthetic ffff" in reasons[1]
        self.write(folder, "budget: {net.levels: 5}\n", "bounded_heads")
        reasons = load_boards(three.path).boards[0].apart[0].reasons
        assert "net.levels=4, this board's is 5" in reasons[1]
        self.write(folder, "task: verification\n", "bounded_heads")
        reasons = load_boards(three.path).boards[0].apart[0].reasons
        assert "task separation, this board's is verification" in reasons[1]
        self.write(folder, f"metric: {SEPARATION}_q5\n", "bounded_heads")
        board = load_boards(three.path).boards[0]
        assert board.metric.key == f"{SEPARATION}_q5"
        assert (board.metric.label, board.metric.higher_is_better) == (
            "si sdr improvement db q5",
            True,
        )

    def test_another_metric_has_the_direction_of_its_task(
        self, home, tmp_path, monkeypatch
    ) -> None:
        (tmp_path / "conf").mkdir()
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "conf", "metric: test/min_dcf\n", "bounded_heads")
        for head, cost in (("sine", 0.9), ("tanh", 0.4)):
            more = {"task": "verification", "head": head, "monitor": {"mode": "min"}}
            home.write(head, metrics={"test/min_dcf": cost}, **more)
        (board,) = load_boards(home.path).boards
        assert [row.name for row in board.rows] == ["head=tanh", "head=sine"]

    @pytest.mark.parametrize(
        ("said", "first"),
        [
            ("metric: test/loss", "tanh"),
            ("metric: test/loss_raw", "tanh"),
            ("metric: test/own\nhigher_is_better: false", "tanh"),
            ("metric: test/own\nhigher_is_better: true", "sine"),
        ],
    )
    def test_another_metric_has_a_direction_of_its_own(
        self, home, tmp_path, monkeypatch, said: str, first: str
    ) -> None:
        (tmp_path / "conf").mkdir()
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "conf", said, "bounded_heads")
        for head, value in (("sine", 0.9), ("tanh", 0.4)):
            metrics = dict.fromkeys(("test/loss", "test/loss_raw", "test/own"), value)
            home.write(head, head=head, metrics={SEPARATION: 1.0} | metrics, monitor={})
        (board,) = load_boards(home.path).boards
        assert board.best.name == f"head={first}"
        assert [row.standing.place for row in board.rows] == [1, 2]

    def test_a_metric_whose_direction_nobody_says_is_refused(
        self, three, tmp_path, monkeypatch
    ) -> None:
        (tmp_path / "conf").mkdir()
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "conf", f"metric: {SEPARATION}_std", "bounded_heads")
        with pytest.raises(ConfigError, match=r"_std: .* say higher_is_better: true or false"):
            load_boards(three.path)
        said = f"metric: {SEPARATION}\nhigher_is_better: false"
        self.write(tmp_path / "conf", said, "bounded_heads")
        with pytest.raises(ConfigError, match="higher is better for"):
            load_boards(three.path)

    def test_it_may_refuse_code_that_no_commit_holds(self, three, tmp_path, monkeypatch) -> None:
        (tmp_path / "conf").mkdir()
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "conf", "committed: true\n", "bounded_heads")
        for folder in three.path.glob("*0*"):
            seal(folder, environment=ENVIRONMENT | {"uncommitted_hash": "d1"})
        board = load_boards(three.path).boards[0]
        assert board.rows == []
        assert "uncommitted code (changes d1)" in board.apart[0].reasons[1]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("seed: 3", "unknown seed; known: task, data"),
            ("seeds: many", "seeds: a whole number is needed, got 'many'"),
            ("seeds: 0", "seeds: a whole number from 1 is needed, got 0"),
            ("equal: [dta]", "equal: 'dta' is none of data, code"),
            ("committed: 1", "committed: true or false is needed, got 1"),
            ("[1", "is not a protocol of a board"),
            ("- 1", "is not a protocol of a board"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        self.write(tmp_path, text)
        with pytest.raises(ConfigError, match=r"mine\.yaml") as raised:
            protocol_of("mine", [tmp_path])
        assert words in str(raised.value)


def test_examples_of_a_search_count_only_where_its_run_is_a_final(three) -> None:
    folder = three.path / "tanh1002"
    seal(folder, purpose="search", trial=3)
    edited_example(folder)
    assert not load_boards(three.path).skipped
    final = three.path / "sweeps" / "bounded_heads" / "finals" / "final-0003-1002.json"
    final.parent.mkdir(parents=True)
    final.write_text(json.dumps({"run_id": "tanh1002", "trial": 3, "seed": 1002}))
    (apart,) = load_boards(three.path).boards[0].apart
    assert apart.reasons[0] == "4 of 5 fresh seeds finished"
    (reason,) = apart.reasons[1:]
    assert reason.startswith("seed 1002 failed: ")
    assert reason.endswith("test_examples.json was changed after it was written")
