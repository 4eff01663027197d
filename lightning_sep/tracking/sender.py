"""A W&B run that is open: what is sent to it, and in which form."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_sep.errors import one_line
from lightning_sep.tracking.dashboard import Mirror

_INIT_S = 30.0  # longest wait for a server when a run is opened
_FINISH_S = 120.0  # and when it is closed; what is not sent by then stays on disk


class Sender:
    """Opened at once; every call raises what W&B raises.

    Args:
        mirror: what W&B is told.
        mode: ``"offline"`` or ``"online"``.
        folder: where ``wandb/`` with W&B's files is made.
        sent: the last step that W&B has, where it cannot be asked.
        ends: whether closing it ends the run at W&B.
    """

    def __init__(
        self,
        mirror: Mirror,
        *,
        mode: str,
        folder: Path,
        sent: int = -1,
        ends: bool = True,
    ) -> None:
        import wandb

        self.mirror = mirror
        self._run: Any = wandb.init(
            dir=folder,
            mode="online" if mode == "online" else "offline",
            project=mirror.project,
            entity=mirror.entity,
            id=mirror.run_id,
            name=mirror.name,
            group=mirror.group,
            job_type=mirror.job_type,
            tags=mirror.tags,
            config=mirror.config,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                symlink=False,
                x_update_finish_state=ends,
                x_transaction_log_flush_interval=2,
                init_timeout=_INIT_S,
                finish_timeout=_FINISH_S,
            ),
        )
        self.logs = Path(self._run.settings.log_internal).parent
        self._sent = self._run.starting_step - 1 if mode == "online" else sent
        self._last = -1  # step of the history's last line
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")
        for name, better in mirror.directions().items():
            self._run.define_metric(name, summary=better, step_metric="epoch")
        self.state("running")

    @property
    def url(self) -> str:
        """Where the project is to be seen."""
        return str(self._run.project_url)

    @property
    def place(self) -> tuple[str, str]:
        """Entity and project that W&B has it in."""
        return str(self._run.entity), str(self._run.project)

    def state(self, word: str) -> None:
        """Say how the run stands: W&B's own word for it knows no pruned runs."""
        self._run.summary.update({"state": word})

    def log(self, row: Mapping[str, Any], histograms: Mapping[str, Any]) -> None:
        """Send a line of the history, unless W&B has it."""
        import wandb

        self._last = max(self._last, row["step"])
        if row["step"] <= self._sent:
            return
        values = {name: value for name, value in row.items() if name != "step"}
        values |= {name: wandb.Histogram(np_histogram=two) for name, two in histograms.items()}
        # Committed at once: W&B holds the last row back until it gets the next one.
        self._run.log(values, step=row["step"], commit=True)
        self._sent = row["step"]

    def results(self, outcome: Mapping[str, Any], folder: Path) -> None:
        """Send what came of the run.

        Args:
            outcome: as its record says it.
            folder: the run's folder.
        """
        metrics = outcome.get("metrics") or {}
        told = {name: value for name, value in metrics.items() if name.startswith("test/")}
        told |= {key: outcome.get(key) for key in ("state", "parameters", "wall_s")}
        if self._sent <= self._last and outcome.get("examples_file"):
            # The scores are worth more than what a server may refuse.
            if self.mirror.job_type != "search":
                with _said("the table of examples"):
                    self._table(folder / outcome["examples_file"], folder / "audio")
            if self.mirror.checkpoint:
                with _said("the weights"):
                    self._checkpoint(outcome, folder / "checkpoints")
        self._run.summary.update(told)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; waits until everything is sent."""
        self._run.finish(exit_code=exit_code)

    def _table(self, values: Path, audio: Path) -> None:
        """Send the scores of the test's examples, and the sounds of the first of them."""
        import wandb

        columns = _columns(json.loads(values.read_text()))
        count = len(next(iter(columns.values()), ()))
        for path in sorted(audio.glob("*-*.flac")):
            number, _, what = path.stem.partition("-")
            if number.isdecimal() and int(number) < count:
                columns.setdefault(what, [None] * count)[int(number)] = wandb.Audio(str(path))
        rows: Any = [list(row) for row in zip(*columns.values(), strict=True)]
        table = wandb.Table(columns=list(columns), data=rows, allow_mixed_types=True)
        self._run.log({"test/examples": table}, step=self._last + 1, commit=True)

    def _checkpoint(self, outcome: Mapping[str, Any], folder: Path) -> None:
        """Send the best epoch's weights, from where they lie."""
        import wandb

        monitor = outcome["monitor"]
        artifact = wandb.Artifact(f"model-{self.mirror.run_id}", "model", metadata=dict(monitor))
        for name in outcome["checkpoints"]:
            if name.startswith("best"):
                path = str(folder / name)
                artifact.add_file(path, "best.ckpt", policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact, aliases=["best"])


def refusals() -> tuple[type[Exception], ...]:
    """What W&B raises where it does not know who asks."""
    from wandb.errors import AuthenticationError, UsageError

    return AuthenticationError, UsageError


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Say what could not be sent, and go on."""
    try:
        yield
    except Exception as error:
        print(f"lightning-sep: W&B refuses {what}: {one_line(error)}", file=sys.stderr, flush=True)


def _columns(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a test says of each example: the lists that are as long as most."""
    lists = {
        name.removeprefix("test/"): one for name, one in values.items() if isinstance(one, list)
    }
    lengths = Counter(len(one) for one in lists.values())
    if not lengths:
        return {}
    length = len(lists["index"]) if "index" in lists else lengths.most_common(1)[0][0]
    return {
        name: [json.dumps(value) if isinstance(value, list | dict) else value for value in one]
        for name, one in lists.items()
        if len(one) == length
    }
