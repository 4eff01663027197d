"""What a task keeps, forgets and draws from step to step, epoch to epoch and batch to batch."""

from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_sep.data.batch import Batch
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.autoregression import Autoregression
from lightning_sep.tasks.base import Task, step_seed
from tests.tasks import facts

SIZE, FRAMES, EXAMPLES = 8, 6, 4


def task_of(*overrides: str) -> Autoregression:
    settings = compose(
        [
            *("task=autoregression", f"task.frame_samples={SIZE}"),
            *("optimizer.learning_rate=1e-30", *overrides),
        ]
    )
    task = build_task(settings.tree, facts.SEQUENCES)
    assert isinstance(task, Autoregression)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(3)  # frames of its own that are no silence
    return task


def batch_of(seed: int = 2, *, silent: tuple[int, ...] = ()) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    waveform = 0.4 * torch.randn(EXAMPLES, FRAMES * SIZE, generator=draw)
    waveform *= torch.tensor([[1.0], [0.3], [0.7], [1.5]])
    active = torch.ones(EXAMPLES, dtype=torch.bool)
    for example in silent:
        waveform[example], active[example] = 0, False
    return Batch(
        waveform=waveform.unsqueeze(1),
        labels=torch.zeros(EXAMPLES, dtype=torch.int64),
        active=active,
        index=torch.arange(EXAMPLES) + 10 * seed,
    )


def frames_of(batch: Batch) -> Tensor:
    return batch.waveform.reshape(EXAMPLES, FRAMES, SIZE)


def costs(made: Tensor, batch: Batch) -> Tensor:
    """Mean squared error of each example, in float64."""
    wrong = made.double() - frames_of(batch)[:, 1:].double()
    return wrong.square().mean((1, 2))


def forced(task: Task, batch: Batch, noise: Tensor | float = 0.0) -> Tensor:
    with torch.no_grad():
        return costs(task.net(frames_of(batch)[:, :-1] + noise).tanh(), batch)


def losses_of_steps(task: Task, batch: Batch, steps: int) -> list[float]:
    """What is minimised in each step of a real training that moves nothing."""
    found: list[float] = []

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *_: object) -> None:
            found.append(float(outputs["loss"]))

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Note()],
    )
    trainer.fit(task, DataLoader([batch] * steps, batch_size=None))
    return found


# --- draws


def test_a_step_draws_by_the_runs_seed_and_its_own_number() -> None:
    task, batch = task_of("task.input_noise=0.5", "seed=5"), batch_of()
    expected = []
    for step in range(3):
        generator = torch.Generator().manual_seed(step_seed(5, step))
        noise = torch.randn(EXAMPLES, FRAMES - 1, SIZE, generator=generator)
        expected.append(float(forced(task, batch, 0.5 * noise).mean()))
    assert len(set(expected)) == 3
    assert losses_of_steps(task, batch, 3) == pytest.approx(expected, rel=1e-5)


def test_seed_and_step_change_what_is_drawn_and_rank_what_others_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()
    for seed, step, rank in [(5, 7, 2), (5, 7, 0), (5, 0, 2), (0, 7, 2)]:
        task = task_of(f"seed={seed}")
        monkeypatch.setattr(type(task), "global_step", step)
        monkeypatch.setattr("lightning_sep.tasks.base.own_rank", lambda rank=rank: rank)
        own = torch.rand(3, generator=task.generator(batch_of()))
        expected = torch.Generator().manual_seed(step_seed(seed, step))
        assert torch.equal(own, torch.rand(3, generator=expected))
        task.on_train_batch_start(batch_of(), 0)
        others = torch.rand(3)
        expected = torch.Generator().manual_seed(step_seed(seed, step, rank))
        assert torch.equal(others, torch.rand(3, generator=expected))
        seen.add(tuple(others.tolist()))
    assert len(seen) == 4


def test_seeds_of_steps_do_not_meet() -> None:
    found = {step_seed(s, n, r) for s in range(30) for n in range(30) for r in range(8)}
    assert len(found) == 30 * 30 * 8
    assert all(0 <= one < 2**63 for one in found)


@pytest.mark.parametrize("setting", ["net.dropout", "net.input_dropout"])
def test_dropout_is_drawn_by_the_step_where_true_frames_go_in(setting: str) -> None:
    task, batch = task_of(f"{setting}=0.5", "seed=5").train(), batch_of()
    generator = torch.Generator().manual_seed(step_seed(5, 0))
    with torch.no_grad():
        made = task.net(frames_of(batch)[:, :-1], generator=generator).tanh()
    expected = float(costs(made, batch).mean())
    assert expected != pytest.approx(float(forced(task, batch).mean()), rel=1e-3)
    assert task.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("setting", ["net.dropout", "net.dense_dropout"])
def test_dropout_of_embeddings_is_drawn_by_the_step(setting: str) -> None:
    off = {"net.dropout", "net.dense_dropout"} - {setting}
    settings = compose(
        ["task=verification", "seed=5", f"{setting}=0.5", *(f"{name}=0" for name in off)]
    )
    task = build_task(settings.tree, facts.SNIPPETS).train()
    waveform = 0.3 * torch.randn(6, 1200, generator=torch.Generator().manual_seed(1))
    batch = Batch(
        waveform.unsqueeze(1),
        torch.arange(6) // 2,
        torch.ones(6, dtype=torch.bool),
        torch.arange(6),
    )
    found = task.training_step(batch, 0)
    features: list[Tensor] = []
    net = task.net.forward

    def noted(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        features.append(x)
        return net(x, generator=generator)

    task.net.forward = noted
    still = task.scores(batch, task.raw(batch, None)).losses.mean()
    del task.net.forward
    with torch.no_grad():
        drawn = task.net(features[0], generator=torch.Generator().manual_seed(step_seed(5, 0)))
        expected = task.scores(batch, drawn).losses.mean()
    assert float(expected) != pytest.approx(still.item(), rel=1e-4)
    assert found.item() == pytest.approx(float(expected), rel=1e-5)


# --- scheduled sampling


def own_frames(task: Autoregression, batch: Batch) -> Tensor:
    """Predictions when all but the first frame are the net's own, which no gradient enters."""
    frame, state = frames_of(batch)[:, 0], None
    made: list[Tensor] = []
    for _ in range(FRAMES - 1):
        output, state = task.net.step(frame, state)
        made.append(output.tanh())
        frame = made[-1].detach()
    return torch.stack(made, dim=1)


def test_own_frames_go_in_more_often_with_every_step_of_training() -> None:
    task, batch = task_of("task.teacher_forcing_slope=0.5"), batch_of()
    with torch.no_grad():
        task.net.output.bias.fill_(2.0)  # its own frames are far from the true ones
        task.net.output.weight.mul_(5)
    all_true = float(forced(task, batch).mean())
    with torch.no_grad():
        all_own = float(costs(own_frames(task, batch), batch).mean())
    assert all_own != pytest.approx(all_true, rel=1e-3)
    first, second, third = losses_of_steps(task, batch, 3)
    assert first == pytest.approx(all_true, rel=1e-5)  # a true frame for sure
    assert third == pytest.approx(all_own, rel=1e-5)  # none but the first
    assert second != pytest.approx(first, rel=1e-4)
    assert second != pytest.approx(third, rel=1e-4)


def test_no_gradient_goes_through_frames_that_were_fed_back() -> None:
    """Bengio et al. (2015) feed samples back as if they were data; states keep their gradient."""
    task, batch = task_of("task.teacher_forcing_slope=1"), batch_of()
    task.true_frames = lambda step: 0.0
    task.train()
    parameters = list(task.net.parameters())
    expected = torch.autograd.grad(costs(own_frames(task, batch), batch).mean(), parameters)
    found = torch.autograd.grad(task.training_step(batch, 0), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_target_that_is_no_number_leaves_the_others_their_gradient(broken: float) -> None:
    task, batch = task_of("head=linear"), batch_of()
    task.double().train()
    batch.waveform = batch.waveform.double()
    parameters = list(task.net.parameters())
    rest = torch.tensor([0, 1, 3])
    made = task.net(frames_of(batch)[rest, :-1])
    wrong = (made - frames_of(batch)[rest, 1:]).square().mean((1, 2))
    expected = torch.autograd.grad(wrong.mean(), parameters)
    batch.waveform[2, 0, -SIZE:] = broken  # the last frame, which does not go in
    found = torch.autograd.grad(task.training_step(batch, 0), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# --- epochs


def test_an_epoch_of_training_forgets_the_one_before() -> None:
    task = task_of()
    for seed in (2, 3):
        batch = batch_of(seed, silent=(1,))
        task.on_train_epoch_start()
        assert task.epoch_metrics == {}
        task.training_step(batch, 0)
        task.on_train_epoch_end()
        kept = forced(task, batch)[batch.active]
        assert task.epoch_metrics["train/loss"] == pytest.approx(float(kept.mean()), rel=1e-5)
        assert task.epoch_metrics["train/non_finite"] == 0


def test_sums_of_an_epoch_and_facts_go_through_a_checkpoint() -> None:
    task, batch = task_of(), batch_of()
    task.on_train_epoch_start()
    task.training_step(batch, 0)
    kept: dict[str, object] = {}
    task.on_save_checkpoint(kept)
    assert kept["facts"] == facts.SEQUENCES.plain()
    assert not kept["train_sums"].requires_grad
    other = task_of()
    other.on_load_checkpoint(kept)
    other.training_step(batch_of(3), 1)
    other.on_train_epoch_end()
    both = torch.cat([forced(task, batch), forced(task, batch_of(3))])
    assert other.epoch_metrics["train/loss"] == pytest.approx(float(both.mean()), rel=1e-5)


def test_sums_of_several_processes_go_on_in_one() -> None:
    """Losses and examples are each process's own; of what is minimised each has the whole."""
    other = task_of()
    # losses, examples, weighted losses, steps, examples with the one whose loss is not finite
    sums = [[6.0, 3.0, 4.0, 2.0, 4.0], [2.0, 1.0, 8.0, 2.0, 1.0]]
    other.on_load_checkpoint({"train_sums": torch.tensor(sums, dtype=torch.float64)})
    other.train_sums.add(*(torch.tensor(one) for one in (3.0, 2.0, 9.0, 1.0, 2.0)))  # a step more
    other.on_train_epoch_end()
    assert other.epoch_metrics == {
        "train/loss": (6 + 2 + 3) / (3 + 1 + 2),
        "train/weighted_loss": ((4 + 8) / 2 + 9) / (2 + 1),
        "train/non_finite": 1,
    }


# --- evaluation


def evaluated(task: Task, stage: str, *batches: Batch) -> dict[str, float]:
    name = "validation" if stage == "val" else stage
    task.eval()
    with torch.no_grad():
        getattr(task, f"on_{name}_epoch_start")()
        for number, batch in enumerate(batches):
            getattr(task, f"{name}_step")(batch, number)
        getattr(task, f"on_{name}_epoch_end")()
    return dict(task.epoch_metrics)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_an_evaluation_costs_what_is_clipped_and_what_is_not_over_all_batches(stage: str) -> None:
    task = task_of("head=clip_at_eval")
    with torch.no_grad():
        task.net.output.bias.fill_(0.9)  # beyond the bound now and then
    batches = [batch_of(2, silent=(0,)), batch_of(3)]
    expected: dict[str, list[float]] = {"loss": [], "loss_raw": []}
    for _ in range(2):  # the second evaluation knows nothing of the first
        expected = {"loss": [], "loss_raw": []}
        for batch in batches:
            with torch.no_grad():
                raw = task.net(frames_of(batch)[:, :-1])
            assert float(raw.abs().max()) > 1
            expected["loss"] += costs(raw.clamp(-1, 1), batch)[batch.active].tolist()
            expected["loss_raw"] += costs(raw, batch)[batch.active].tolist()
        found = evaluated(task, stage, *batches)
    for name, values in expected.items():
        assert found[f"{stage}/{name}"] == pytest.approx(np.mean(values), rel=1e-5)
    assert found[f"{stage}/loss_raw"] > found[f"{stage}/loss"] * 1.0001
    assert not task.head.training


def test_dropout_and_noise_have_no_part_in_an_evaluation() -> None:
    still = task_of()
    loud = task_of("net.dropout=0.5", "net.input_dropout=0.5", "task.input_noise=1")
    loud.load_state_dict(still.state_dict())
    batch = batch_of()
    assert evaluated(loud, "val", batch) == evaluated(still, "val", batch)


def test_a_loss_beyond_the_numbers_is_left_out_of_the_mean_of_an_evaluation() -> None:
    task, batch = task_of("head=linear"), batch_of()
    expected = float(costs(task.net(frames_of(batch)[:, :-1]).detach(), batch)[[0, 1, 3]].mean())
    batch.waveform[2, 0, -SIZE:] = 1e30  # a target only, whose squared error is infinite
    assert evaluated(task, "val", batch)["val/loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["mu_law_softmax", "tanh_cross_entropy"])
def test_a_head_that_brings_its_loss_shows_it_under_both_names(head: str) -> None:
    task, batch = task_of(f"head={head}"), batch_of()
    task.eval()
    with torch.no_grad():
        raw = task.raw(batch, None)
        expected = float(task.head.own_loss(raw, frames_of(batch)[:, 1:]).mean((1, 2)).mean())
    found = evaluated(task, "val", batch)
    assert found["val/loss"] == pytest.approx(expected, rel=1e-6)
    assert found["val/loss_raw"] == found["val/loss"]


# --- what is trained


def test_parameters_of_a_head_and_of_a_loss_are_trained_like_those_of_the_net() -> None:
    settings = compose(["task=verification", "head=prelu"])
    task = build_task(settings.tree, replace(facts.SNIPPETS, speakers=3, snippets=2))
    task.loss.register_parameter("own", torch.nn.Parameter(torch.ones(2)))
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in task.parameters()}
    assert id(task.head.activation.weight) in held
    assert id(task.loss.own) in held
