"""A board: one fixed protocol and the settings ranked under it.

Rows come from final runs alone, fresh seeds of settings that were chosen on validation; the
search that chose them feeds plots and never a score, since the best of many single runs looks
better than it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from lightning_sep.errors import ConfigError
from lightning_sep.find import begun_run
from lightning_sep.leaderboard.asks import Asks, asks_of
from lightning_sep.leaderboard.axes import (
    Value,
    axes,
    label_of,
    label_text,
    override_labels,
    strays,
)
from lightning_sep.leaderboard.metric import Metric, metric_of, told_by_most
from lightning_sep.leaderboard.protocol import Protocol, breaches, protocol_of
from lightning_sep.leaderboard.ranking import standings
from lightning_sep.leaderboard.rows import (
    Apart,
    Row,
    is_scored,
    make_row,
    mean_of,
    newest_per_seed,
    scores_of,
    why_unscored,
    with_standing,
)
from lightning_sep.leaderboard.runs import Run, Skipped, read_runs, reused_runs
from lightning_sep.leaderboard.search import Search, Tried, search_of, tried_of
from lightning_sep.leaderboard.tables import (
    LEAST_SPEAKERS,
    Damaged,
    Values,
    shared_units,
    values_of,
)
from lightning_sep.memory import no_collection
from lightning_sep.record import read_record

SINGLE = "single"  # the board of runs that belong to no sweep
SEEDS_WANTED = 5  # fewer seeds leave wide intervals; the board says so
ON_VALIDATION = "mean validation score of the final runs"
ON_TEST = "mean test score, for want of validation scores"
NEW_SEEDS = "new seeds on this test set, with the same training data"
NEW_SEEDS_AND_UNITS = "new seeds and new test {units}, with the same training data"


@dataclass(frozen=True)
class Board:
    """The ranked settings of one sweep and what is needed to read and to repeat them."""

    name: str
    task: str
    metric: Metric
    truth: str
    rows: list[Row]  # the best one first, the others by their mean
    apart: list[Apart]
    tried: list[Tried]  # settings that only the search saw, unranked
    chosen_by: str  # what the best one is chosen by
    baselines: list[tuple[str, float]]
    notes: list[str]
    search: Search | None
    axes: list[str]
    question: str  # that its sweep asks; may be empty

    @property
    def best(self) -> Row | None:
        """The best setting: chosen by the finals' scores on validation."""
        return self.rows[0] if self.rows else None

    @property
    def settings_tried(self) -> int:
        """How many settings the best one was chosen of."""
        return len(self.rows) + len(self.apart) + len(self.tried)

    @property
    def may_be_best(self) -> list[Row]:
        """The rows that no other row is distinguishably better than."""
        return [row for row in self.rows if row.may_be_best]

    @property
    def monitor(self) -> str:
        """What the search, or else the finals, monitored on validation; empty where none says."""
        if self.search is not None and self.search.monitor:
            return self.search.monitor
        runs = [score.run for row in self.rows for score in row.scores]
        return next((run.monitor_name for run in runs if run.monitor_name), "")

    @property
    def monitor_rises(self) -> bool:
        """Whether more of what was monitored is better."""
        if self.search is not None and self.search.monitor:
            return self.search.higher_is_better
        runs = [score.run for row in self.rows for score in row.scores]
        told = next((run for run in runs if run.monitor_name), None)
        return self.metric.higher_is_better if told is None else told.monitor_mode != "min"

    @property
    def of_new_units(self) -> bool:
        """Whether intervals hold for new examples too."""
        return self.truth != NEW_SEEDS


@dataclass(frozen=True)
class Boards:
    """What a home holds: boards by name, and the records that are not used."""

    boards: list[Board]
    skipped: list[Skipped]
    singles: int  # runs outside of any sweep that are not among ``boards``


def board_name(given: str) -> str:
    """A sweep's name; its file is as good."""
    return Path(given).stem if given.endswith(".py") else given


@no_collection()
def load_boards(
    home: Path,
    names: Sequence[str] | None = None,
    *,
    missing_ok: bool = False,
    protocol: Protocol | None = None,
) -> Boards:
    """Read all records under ``home`` and rank them.

    Args:
        home: folder of runs.
        names: sweeps to show, or ``["single"]`` for the runs outside of sweeps, a board per
            task and set of data, in this order. None shows every sweep by name, and the single runs
            where there is no sweep yet.
        missing_ok: pass over names that no record knows.
        protocol: what ranked runs must share; that of each board's name without it.

    Raises:
        ConfigError: a name that no record knows.
    """
    runs, skipped = read_runs(home)
    groups: dict[tuple[str, str], list[Run]] = {}
    singles: dict[tuple[str, str], list[Run]] = {}
    reused, lost = reused_runs(home, runs)
    for run in [*runs, *reused]:
        if run.sweep is not None:
            groups.setdefault((run.sweep, run.task), []).append(run)
        elif run.purpose == "single":
            singles.setdefault((SINGLE, run.task), []).append(run)
    singles = _by_data(singles)
    sweeps = sorted({sweep for sweep, _ in groups})
    if names is None:
        chosen = groups or singles
    else:
        known = [*sweeps, *([SINGLE] if singles else [])]
        for name in names:
            if name not in known and not missing_ok:
                raise ConfigError(_unknown(name, known, home))
        chosen = {
            key: value for key, value in {**groups, **singles}.items() if key[0] in set(names)
        }
    places = {name: place for place, name in enumerate(names or ())}
    tasks: dict[str, int] = {}
    for sweep, _ in chosen:
        tasks[sweep] = tasks.get(sweep, 0) + 1
    boards = [
        build_board(
            f"{sweep}/{task}" if tasks[sweep] > 1 else sweep,
            members,
            asks=asks_of(home, sweep),
            lost=lost.get(sweep, ()),
            protocol=protocol_of(sweep) if protocol is None else protocol,
        )
        for (sweep, task), members in sorted(
            chosen.items(), key=lambda item: (places.get(item[0][0], 0), item[0])
        )
    ]
    left = 0 if any(key in chosen for key in singles) else sum(map(len, singles.values()))
    return Boards(boards, skipped, left)


def _by_data(groups: dict[tuple[str, str], list[Run]]) -> dict[tuple[str, str], list[Run]]:
    """Single runs of a task, apart where they were tested on other data."""
    found: dict[tuple[str, str], list[Run]] = {}
    for (name, task), members in groups.items():
        sets = {tuple(sorted(run.data.items())) for run in members}
        for run in members:
            data = tuple(sorted(run.data.items()))
            called = "+".join(one for one, _ in data)
            if sum("+".join(one for one, _ in other) == called for other in sets) > 1:
                called += "".join(f" {value[:6]}" for _, value in data)  # versions of one set
            key = task if len(sets) == 1 else f"{task}/{called}"
            found.setdefault((name, key), []).append(run)
    return found


def build_board(
    name: str,
    runs: Sequence[Run],
    asks: Asks | None = None,
    protocol: Protocol | None = None,
    lost: Sequence[str] = (),
) -> Board:
    """Rank the final (or single) runs of one task; its search runs become plots.

    Args:
        name: name of the board.
        runs: all runs of one sweep and task, at least one.
        asks: what the sweep asks for, where that is known.
        protocol: what ranked runs must share; nothing without it.
        lost: finals that the sweep lists, and that are not among ``runs``.
    """
    protocol = Protocol(equal=()) if protocol is None else protocol
    told = told_by_most(runs)
    higher_validates = told.monitor_mode != "min"
    metric = metric_of(told)
    if protocol.metric is not None:
        metric = metric.renamed(protocol.metric, protocol.higher_is_better)
    entrants = [run for run in runs if run.purpose in ("final", SINGLE)]
    names, labels = _labels(runs)
    reasons = _breaches(runs[0].task, entrants, protocol)
    for run in entrants:
        if run.monitor_name and run.monitor != told.monitor:
            said = f"monitors {_monitor(run)}, this board's runs {_monitor(told)}"
            reasons.setdefault(run.run_id, []).append(said)
    groups: dict[str, list[Run]] = {}
    for run in entrants:
        groups.setdefault(run.config_hash, []).append(run)
    for members in groups.values():
        for run_id, changed in strays(members).items():
            said = f"other settings than the row's other runs ({', '.join(changed)})"
            reasons.setdefault(run_id, []).append(said)
    values = _values([run for run in entrants if run.run_id not in reasons], metric, reasons)
    wanted = protocol.seeds
    if wanted is None and runs[0].purpose != SINGLE and asks is not None:
        wanted = asks.final_seeds
    if wanted is None and any(run.purpose == "final" for run in entrants):
        wanted = _seeds_begun(list(groups.values()))
    rows, apart, beside = [], [], []
    race = _race(entrants, asks, labels, metric)
    for config, members in groups.items():
        kept = newest_per_seed([run for run in members if run.run_id not in reasons])
        row = make_row(
            kept or newest_per_seed(members),
            metric,
            labels[config],
            [values.get(run.run_id) for run in kept if is_scored(run, metric)],
        )
        why = _shortcomings(row, members, kept, wanted, reasons, race, metric)
        if why:
            apart.append(Apart(row, why))
        else:
            rows.append(row)
            beside += _off([run for run in members if run.run_id in reasons], reasons)
            beside += _replaced(members, row, reasons, metric)
    by_validation = any(row.validation is not None for row in rows)
    best = _best(rows, metric, higher_validates=higher_validates)
    found = standings(
        [scores_of(row, [values.get(one.run.run_id) for one in row.scores]) for row in rows],
        best=best,
        higher_is_better=metric.higher_is_better,
        others=len(apart),
        floor=metric.floor,
    )
    ranked = [with_standing(row, standing) for row, standing in zip(rows, found, strict=True)]
    ranked = [ranked[best], *sorted(ranked[:best] + ranked[best + 1 :], key=_place)] if rows else []
    searched = [run for run in runs if run.purpose == "search"]
    whole = bool(values) and all(one is not None for one in values.values())
    truth = NEW_SEEDS_AND_UNITS.format(units=f"{metric.unit_name}s") if whole else NEW_SEEDS
    return Board(
        name=name,
        task=runs[0].task,
        metric=metric,
        truth=truth,
        rows=ranked,
        apart=sorted(apart, key=lambda one: _order(one.row, metric)),
        tried=tried_of(searched, groups, labels, higher_is_better=higher_validates),
        chosen_by=ON_VALIDATION if by_validation or not rows else ON_TEST,
        baselines=_baselines(ranked, metric),
        notes=[
            *_unvalidated(ranked),
            *_notes(ranked, metric),
            *(f"Not counted: {one}." for one in beside),
            *_lost(lost),
        ],
        search=search_of(searched, names, labels),
        axes=names,
        question="" if asks is None else asks.question,
    )


def _labels(
    known: Sequence[Run],
) -> tuple[list[str], dict[str, list[tuple[str, Value]]]]:
    """What the board's settings are told apart by, and the label of each by its config hash."""
    by_override = override_labels(known)
    if by_override is not None:
        names = dict.fromkeys(name for label in by_override.values() for name, _ in label)
        return list(names), by_override
    names_found = axes(known)
    return names_found, {run.config_hash: label_of(run, names_found) for run in known}


def _breaches(task: str, runs: Sequence[Run], protocol: Protocol) -> dict[str, list[str]]:
    if protocol.task is not None and task != protocol.task:
        return {run.run_id: [f"task {task}, this board's is {protocol.task}"] for run in runs}
    return breaches(runs, protocol)


def _values(
    runs: Sequence[Run], metric: Metric, reasons: dict[str, list[str]]
) -> dict[str, Values | None]:
    """Each scored run's values per unit, by run id; None for all where most runs have none.

    Whoever has none where the others do, or those of other units, gets a reason instead.
    """
    found: list[tuple[Run, Values | None]] = []
    for run in runs:
        if not is_scored(run, metric):
            continue
        try:
            found.append((run, values_of(run, metric)))
        except Damaged as problem:
            reasons[run.run_id] = [str(problem)]
    units = shared_units(found)
    if units is None:
        return {run.run_id: None for run, _ in found}
    for run, values in found:
        if values is None:
            reasons[run.run_id] = [f"no values per {metric.unit_name}, which the others have"]
        elif values.units != units:
            reasons[run.run_id] = [f"tested on other {metric.unit_name}s than the others"]
    return {run.run_id: values for run, values in found if run.run_id not in reasons}


def _shortcomings(
    row: Row,
    members: Sequence[Run],
    kept: Sequence[Run],
    wanted: int | None,
    reasons: dict[str, list[str]],
    race: Mapping[int, tuple[int, str]],
    metric: Metric,
) -> list[str]:
    """Why a row is not ranked; nothing where it has all the seeds that the board asks for.

    What a race has dropped owes no more seeds than it had then.

    Without a number, as for single runs, a setting owes the seeds that were begun: what failed is
    never made up for by what did not.
    """
    final = members[0].purpose == "final"
    counted = [run for run in kept if _counts(row, run)]
    wanted = len(newest_per_seed(members)) if wanted is None else wanted
    if len(counted) >= max(1, wanted):
        return []
    after, words = race.get(-1 if row.trial is None else row.trial, (wanted, ""))
    if words and len(counted) >= after:
        return [f"dropped after {after} of {wanted} fresh seeds: {words}"]
    fresh = "fresh seed" if final else "seed"
    count = f"{len(counted)} of {wanted} {fresh}{'' if wanted == 1 else 's'}"
    off = [run for run in members if run.run_id in reasons]
    unscored = [run for run in kept if not _counts(row, run)]
    none_but_failed = not off and all(run.state == "failed" for run in unscored)
    said = [f"{count} {'finished' if none_but_failed else 'count'}"]
    said += [f"{_seed(run)} {why_unscored(run, metric)}" for run in unscored]
    return said + _off(off, reasons)


def _seeds_begun(groups: Sequence[Sequence[Run]]) -> int:
    """How many seeds the settings of a board were run on, where its sweep does not say.

    What only one of many settings has more than the others is not asked of them.
    """
    begun = sorted(len(newest_per_seed(members)) for members in groups)
    return begun[-2 if len(begun) > 2 else -1]


def _race(
    finals: Sequence[Run],
    asks: Asks | None,
    labels: Mapping[str, list[tuple[str, Value]]],
    metric: Metric,
) -> dict[int, tuple[int, str]]:
    """After how many seeds a race went on without a trial, and why, in words."""
    names = {run.trial: label_text(labels[run.config_hash]) for run in finals}
    same = {run.monitor_name.split("/", 1)[-1] for run in finals} == {metric.name}
    found = {}
    for trial, one in (asks.dropped if asks is not None else {}).items():
        value = metric.with_unit(one.behind) if same else f"{one.behind:.4g}"
        leader = names.get(one.leader, f"trial {one.leader}")
        found[trial] = one.after, f"behind {leader} by {value} on validation"
    return found


def _off(runs: Sequence[Run], reasons: dict[str, list[str]]) -> list[str]:
    """Runs that do not count, each with why."""
    return [f"{_seed(run)} (run {run.run_id}): {', '.join(reasons[run.run_id])}" for run in runs]


def _replaced(
    runs: Sequence[Run], row: Row, reasons: Mapping[str, list[str]], metric: Metric
) -> list[str]:
    """Runs of a row that gave way to later ones of their seeds, which scored otherwise."""
    counted = {score.seed: score for score in row.scores}
    return [
        f"{_seed(run)} (run {run.run_id}): run {later.run.run_id} of this seed finished later"
        for run in runs
        if run.run_id not in reasons and is_scored(run, metric)
        for later in [counted[run.seed]]
        if run.metrics[metric.key] != later.value
    ]


def _counts(row: Row, run: Run) -> bool:
    """Whether a run is one of a row's scores."""
    return any(score.run is run for score in row.scores)


def _monitor(run: Run) -> str:
    return f"{run.monitor_name} ({run.monitor_mode})"


def _seed(run: Run) -> str:
    return "run" if run.seed is None else f"seed {run.seed}"


def _place(row: Row) -> int:
    return 0 if row.standing is None else row.standing.place


def _best(rows: Sequence[Row], metric: Metric, *, higher_validates: bool) -> int:
    """Place of the row with the best mean of its final runs' validation scores.

    The same rule as that of a sweep's ``trials.json``: ties go to the earlier trial. A row that
    lacks validation scores is chosen only where all lack them, by its test score.
    """

    def key(place: int) -> tuple[bool, float, float, str]:
        row = rows[place]
        value, higher = row.validation, higher_validates
        if value is None:
            value = math.fsum(score.value for score in row.scores) / len(row.scores)
            higher = metric.higher_is_better
        trial = math.inf if row.trial is None else row.trial
        return row.validation is None, -value if higher else value, trial, row.name

    return min(range(len(rows)), key=key, default=0)


def _unknown(name: str, known: Sequence[str], home: Path) -> str:
    run = begun_run(name, home)
    if run is not None:
        sweep = (read_record(run) or {}).get("sweep") or SINGLE
        return f"{name!r} is no board but a run: {sweep!r} is the board that has it"
    if not known:
        return (
            f"no board {name!r}: {home} holds no runs of a sweep. "
            "`lightning-sep sweep SWEEP.py` makes one."
        )
    close = get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no board {name!r} in {home}.{hint} Known: {', '.join(known)}."


def _order(row: Row, metric: Metric) -> tuple[bool, float, str]:
    if row.interval is None:
        return True, 0.0, row.name
    return False, -row.interval.mean if metric.higher_is_better else row.interval.mean, row.name


def _baselines(rows: Sequence[Row], metric: Metric) -> list[tuple[str, float]]:
    runs = [score.run for row in rows for score in row.scores]
    found = []
    for baseline in metric.baselines:
        measured = mean_of(runs, baseline.key) if baseline.key else None
        value = measured if measured is not None else baseline.value
        if value is not None:
            found.append((baseline.label, value))
    return found


def _unvalidated(rows: Sequence[Row]) -> list[str]:
    """Who could not be chosen on validation."""
    names = [row.name for row in rows if row.validation is None]
    if not names or len(rows) < 2:
        return []
    if len(names) == len(rows):
        chosen = "so the best was chosen by its test score, which favours it"
        return [f"No setting has validation scores of all its runs, {chosen}."]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    said = ", ".join(names[:3]) + more
    return [f"Without validation scores of all runs, and so not chosen as the best: {said}."]


def _lost(names: Sequence[str]) -> list[str]:
    """Finals that are listed and not there."""
    more = [f"{len(names) - 4} more"] if len(names) > 5 else []
    said = ", ".join([*names[: 4 if more else 5], *more])
    return [f"Listed by the sweep, without a record that can be used: {said}."] if names else []


def _notes(rows: Sequence[Row], metric: Metric) -> list[str]:
    notes = []
    counts = [len(row.scores) for row in rows]
    if counts and min(counts) < SEEDS_WANTED:
        few = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        notes.append(
            f"{few} seed{'' if few == '1' else 's'} per setting: {SEEDS_WANTED} or more make the "
            "intervals narrow enough to compare."
        )
    runs = [score.run for row in rows for score in row.scores]
    changed = sorted({run.uncommitted for run in runs if run.uncommitted})
    if changed:
        notes.append(
            f"Made with code that no commit holds (changes {', '.join(changed)}): it cannot be had "
            "again from the repository."
        )
    for what, versions in (
        ("states of the code", {str(run.environment.get("code_hash"))[:12] for run in runs}),
        ("versions of torch", {str(run.environment.get("torch")) for run in runs}),
    ):
        if len(versions) > 1:
            notes.append(f"Made with {len(versions)} {what}: {', '.join(sorted(versions))}.")
    heard = [
        run.metrics["test/trial_speakers"] for run in runs if "test/trial_speakers" in run.metrics
    ]
    if metric.per_unit == "jackknife" and heard and min(heard) < LEAST_SPEAKERS:
        notes.append(
            f"{min(heard):.0f} test speakers say nothing of new ones, which takes {LEAST_SPEAKERS} "
            "at least: intervals hold for these speakers alone."
        )
    devices = {row.device for row in rows if row.device}
    if len(devices) > 1:
        notes.append(f"Runs come from different devices: {'; '.join(sorted(devices))}.")
    return notes
