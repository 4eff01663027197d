"""A training step of the program, over one of Lightning's barebones Trainer on the same batches.

All ways train in one process, a thread each, and hand over after every step: whatever else the
machine does meets all of them alike. Two threads that do the same in one net still differ by some
percent (where their memory lies): so a step is told once more without its net's own two passes.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from _measure import Line, environment, told

CASES = {
    "lstm_small": ["task=autoregression"],
    "blstm_small": ["task=verification"],
    "sudo_rm_rf_small": ["task=separation", "net=sudo_rm_rf_small", "examples.segment_s=0.5"],
}
MORE = ["tracking=none", "trainer.progress=false", "trainer.epochs=1"]
SOFTMAX = ["reweighting=loss_softmax", "reweighting.alpha=0.1"]
STEPS, WARM = 100, 8


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    for name in CASES:
        rows = [
            told([sys.executable, __file__, name, str(folder / f"{name}-{number}")], env)
            for number in range(rounds)
        ]
        taken = {way: [1000 * row[way] for row in rows] for way in rows[0]}
        for what in ("a step", "a step outside its net"):
            program, bare = (taken[f"{way}, {what}"] for way in ("program", "barebones"))
            yield Line("steps", f"{what}, {name}", "Lightning barebones", program, bare, "CPU ms")
        softmax = taken["softmax, a step"]
        weights = zip(softmax, taken["softmax weights"], taken["even weights"], strict=True)
        even = [step - own + other for step, own, other in weights]
        what = f"a step with loss_softmax, {name}"
        yield Line("steps", what, "the same with even weights", softmax, even, "CPU ms")


class Turns:
    """Lets several threads take their steps in turn, and says how long those took.

    Args:
        names: of the threads, in their order.
    """

    def __init__(self, names: list[str]) -> None:
        self.taken: dict[str, list[float]] = {name: [] for name in names}
        self.outside: dict[str, list[float]] = {name: [] for name in names}
        self.net_s = 0.0  # of the step under way, in its net
        self._waiting = list(names)
        self._turn = threading.Condition()
        self._began: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Wait for the first turn."""
        with self._turn:
            self._turn.wait_for(lambda: self._waiting[0] == name)
        self.net_s = 0.0
        self._began[name] = time.thread_time()

    def next(self, name: str) -> None:
        """A step is done: note its seconds of CPU, and wait for the next turn."""
        self.taken[name].append(time.thread_time() - self._began[name])
        self.outside[name].append(self.taken[name][-1] - self.net_s)
        with self._turn:
            self._waiting.append(self._waiting.pop(0))
            self._turn.notify_all()
        self.begin(name)

    def end(self, name: str) -> None:
        """No step is left."""
        with self._turn:
            self._waiting.remove(name)
            self._turn.notify_all()


def child(name: str, folder: str) -> None:
    """Lower quartile of a step's seconds of CPU, input included, of each way, with and without
    those in its net; and of the weights of its losses.
    """
    import pytorch_lightning as pl
    import torch

    from lightning_sep import experiment
    from lightning_sep.memory import keep_freed_memory
    from lightning_sep.parts import build_parts
    from lightning_sep.reweighting.loss_softmax import LossSoftmax
    from lightning_sep.settings import compose
    from lightning_sep.tasks.autoregression import Autoregression
    from lightning_sep.tasks.base import Task
    from lightning_sep.tasks.separation import Separation
    from lightning_sep.tasks.verification import Verification

    torch.set_num_threads(1)
    weighing: dict[str, list[float]] = {"even": [], "softmax": []}
    weigh = Task._weights

    def timed(task: Any, *arguments: Any) -> Any:
        which = "softmax" if isinstance(task.reweighting, LossSoftmax) else "even"
        began = time.thread_time()
        weights = weigh(task, *arguments)
        weighing[which].append(time.thread_time() - began)
        return weights

    Task._weights = timed  # type: ignore[method-assign]
    backward = torch.Tensor.backward
    reached_s = 0.0  # when the gradient came to what the net gives

    def reached(*_: Any) -> None:
        nonlocal reached_s
        reached_s = time.thread_time()

    def in_net(forward: Callable[..., Any]) -> Callable[..., Any]:
        def raw(*arguments: Any) -> Any:
            began = time.thread_time()
            values = forward(*arguments)
            turns.net_s += time.thread_time() - began
            if values.requires_grad:
                values.grad_fn.register_prehook(reached)  # after what hooks the values themselves
            return values

        return raw

    def back(*arguments: Any, **named: Any) -> None:
        backward(*arguments, **named)
        turns.net_s += time.thread_time() - reached_s

    for kind in (Autoregression, Separation, Verification):
        kind.raw = in_net(kind.raw)  # type: ignore[method-assign]
    torch.Tensor.backward = back  # type: ignore[method-assign]
    keep_freed_memory()  # as the program does, for all of them
    count = STEPS * (1 if name == "blstm_small" else 16)
    overrides = [*CASES[name], *MORE, f"examples.train={count}"]

    def program(way: str, *more: str) -> None:
        settings = compose([*overrides, *more])
        experiment.run(settings, home=Path(folder) / way, alive=lambda: turns.next(way))

    class Plain(pl.LightningModule):
        """Net, head, loss and plain mean, nothing else."""

        def __init__(self, task: Any) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList([task.net])
            self.task = [task]  # not a part: its hooks are not called
            self.draw = torch.Generator().manual_seed(0)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            task = self.task[0]
            return task.scores(batch, task.raw(batch, self.draw)).losses.mean()

        def on_train_batch_end(self, *_: Any) -> None:
            turns.next("barebones")

        def configure_optimizers(self) -> Any:
            return self.task[0].configure_optimizers()

    def barebones() -> None:
        built = build_parts(compose(overrides))
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, gradient_clip_val=5.0, barebones=True)
        trainer.fit(Plain(built.task), built.examples.loader(built.prepared, "train", seed=0))

    ways: dict[str, Callable[[], None]] = {
        "program": lambda: program("program"),
        "barebones": barebones,
        "softmax": lambda: program("softmax", *SOFTMAX),
    }
    turns = Turns(list(ways))

    def work(way: str) -> None:
        turns.begin(way)
        try:
            ways[way]()
        finally:
            turns.end(way)

    threads = [threading.Thread(target=work, args=[way]) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = {f"{way}, a step": taken[WARM:STEPS] for way, taken in turns.taken.items()}
    steps |= {
        f"{way}, a step outside its net": taken[WARM:STEPS] for way, taken in turns.outside.items()
    }
    steps |= {f"{which} weights": taken[WARM:] for which, taken in weighing.items()}
    print(json.dumps({what: quantiles(taken, n=4)[0] for what, taken in steps.items()}))


if __name__ == "__main__":
    child(*sys.argv[1:])
