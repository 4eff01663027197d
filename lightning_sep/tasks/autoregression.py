"""Autoregressive audio: the next frame of a waveform from the frames so far."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_sep.checks import finite_number, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import SequenceFacts
from lightning_sep.errors import ConfigError
from lightning_sep.functional.noise import normal, uniform
from lightning_sep.functional.schedules import exponential, inverse_sigmoid, linear
from lightning_sep.heads.base import Criterion, WaveformHead
from lightning_sep.losses.base import WaveformLoss
from lightning_sep.nets.abilities import SequenceNet
from lightning_sep.tasks.base import Parts, Scored, Task
from lightning_sep.tasks.evaluation import Evaluation


class Autoregression(Task):
    """Next-frame prediction (Beckham's write-up of frame-wise LSTMs on raw audio, IFT6266, 2016).

    Frames ``f_1 .. f_n`` of ``frame_samples`` samples go in, ``f_2 .. f_n`` are predicted. Scores
    are coefficients of determination against the zero predictor, beside what repeating the last
    frame would give; teacher-forced (true frames go in) and free-running (own frames go in from
    half of the sequence on).

    Args:
        parts: net, head, loss and what else a task is made of.
        frame_samples: samples in a frame.
        input_noise: standard deviation of Gaussian noise added to the inputs in training, in
            units of the scaled waveform; targets stay clean.
        teacher_forcing_k: scheduled sampling (Bengio et al., arXiv:1506.03099): in training, the
            true previous frame goes in with a probability that falls from step to step, else the
            net's own one, detached (a draw, where the head is a distribution). Here it is the
            inverse sigmoid ``k / (k + exp(step / k))``.
        teacher_forcing_slope: or it falls linearly, by this much a step;
        teacher_forcing_floor: down to this.
        teacher_forcing_base: or exponentially, times this with each step. With none of the three
            the true frame always goes in.

    Raises:
        ConfigError: a setting is out of its range, more than one schedule is given, the loss
            leaves the scale open, or the net cannot go frame by frame.
    """

    monitor = ("val/r2", "max")
    material = "sequence"
    head_type = WaveformHead
    loss_type = WaveformLoss
    facts_type = SequenceFacts
    head: WaveformHead
    loss: Criterion
    net: SequenceNet  # checked when the task is built
    facts: SequenceFacts

    primary: ClassVar[str] = "r2"

    def __init__(
        self,
        *,
        frame_samples: int,
        input_noise: float = 0.0,
        teacher_forcing_k: float | None = None,
        teacher_forcing_slope: float | None = None,
        teacher_forcing_floor: float = 0.0,
        teacher_forcing_base: float | None = None,
        parts: Parts,
    ) -> None:
        whole_number("frame_samples", frame_samples)
        finite_number("input_noise", input_noise, at_least=0)
        self.frame_samples = frame_samples
        self.input_noise = input_noise
        self.true_frames = _schedule(
            k=teacher_forcing_k,
            slope=teacher_forcing_slope,
            floor=teacher_forcing_floor,
            base=teacher_forcing_base,
        )
        super().__init__(parts=parts)
        if not parts.loss_class.fixes_scale:
            raise ConfigError(
                f"loss={parts.loss_class.__name__} leaves the scale and the sign of a frame open: "
                "the next frame, and R2, need both. Use loss=mse or another that fixes them"
            )
        if not isinstance(self.net, SequenceNet):
            raise ConfigError(
                f"net={type(self.net).__name__} cannot go frame by frame: autoregression needs "
                "its methods run and step, see lightning_sep/nets/abilities.py"
            )

    def sizes(self) -> tuple[int, int]:
        return self.frame_samples, self.frame_samples * self.head.raw_per_sample

    def frames(self, batch: Batch) -> Tensor:
        """``[batch, frame, sample]``."""
        return batch.waveform.reshape(len(batch), -1, self.frame_samples)

    def _shaped(self, raw: Tensor) -> Tensor:
        return raw.reshape(*raw.shape[:-1], self.frame_samples, self.head.raw_per_sample)

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values of frames 2 to n, ``[batch, frame - 1, sample, parameter]``."""
        inputs = self.frames(batch)[:, :-1]
        if generator is not None and self.input_noise > 0:
            noise = normal(inputs.shape, generator=generator, device=inputs.device)
            inputs = inputs + self.input_noise * noise
        if generator is not None and self.true_frames is not None:
            return self._scheduled(inputs, self.true_frames(self.global_step), generator)
        raw = self.net(inputs, generator=generator)
        frames, outputs = inputs.shape[1], self.sizes()[1]
        return self._shaped(self.of_net(raw, batch=len(inputs), frames=frames, outputs=outputs))

    def _scheduled(self, inputs: Tensor, probability: float, generator: torch.Generator) -> Tensor:
        """Raw values when some of the inputs are the net's own, frame by frame."""
        drawn = uniform(inputs.shape[:2], generator=generator, device=inputs.device)
        true = drawn < probability
        state = None
        raw: list[Tensor] = []
        for number, frame in enumerate(inputs.unbind(1)):
            if number:
                own = self.head.sample(raw[-1].detach(), generator).to(frame.dtype)
                frame = torch.where(true[:, number, None], frame, own)
            output, state = self.net.step(frame, state, generator=generator)
            raw.append(self._shaped(output))
        return torch.stack(raw, dim=1)

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        target = self.frames(batch)[:, 1:].flatten(1)
        losses = self.loss(estimate=self.head.seen(raw.flatten(1, 2)), target=target)
        return Scored(
            losses=losses,
            groups=batch.labels.unsqueeze(1),
            mask=batch.active,
            rows=torch.arange(len(batch), device=losses.device).unsqueeze(1),
        )

    def continue_frames(
        self,
        frames: Tensor,
        count: int,
        generator: torch.Generator | None = None,
        told: Callable[[int], None] = lambda made: None,
    ) -> Tensor:
        """Free-running continuation.

        Args:
            frames: true frames so far, ``[batch, frame, sample]``, at least one.
            count: frames to generate, at least one.
            generator: draws from the head's distribution; ``None`` takes its decoded value.
            told: gets the number of frames that are made, after each.

        Returns:
            ``[batch, count, sample]``.
        """
        outputs, state = self.net.run(frames)
        output = outputs[:, -1]
        made = frames.new_empty(len(frames), count, frames.shape[2])
        for number in range(count):
            if number:
                output, state = self.net.step(made[:, number - 1], state)
            raw = self._shaped(output)
            frame = self.head.decode(raw) if generator is None else self.head.sample(raw, generator)
            made[:, number] = frame.to(frames.dtype)
            told(number + 1)
        return made

    def evaluation(self, stage: str) -> "AutoregressionEvaluation":
        return AutoregressionEvaluation(self)

    def audio_examples(self, batch: Batch, count: int) -> dict[str, Tensor]:
        """The first recordings, and how the net goes on from their first half."""
        made = {}
        frames = self.frames(batch)[:count]
        half = frames.shape[1] // 2
        own = self.continue_frames(frames[:, :half], frames.shape[1] - half)
        continued = torch.cat([frames[:, :half], own], dim=1).flatten(1)
        for number in range(len(frames)):
            made[f"{number}-recording"] = batch.waveform[number]
            made[f"{number}-continued"] = continued[number : number + 1]
        return made


class AutoregressionEvaluation(Evaluation):
    """R2 of the next frame, teacher-forced and free-running; see :class:`Autoregression`."""

    def __init__(self, task: Autoregression) -> None:
        from lightning_sep.metrics.next_frame import NextFrameR2  # loads torchmetrics

        super().__init__()
        self.task = task
        device = next(task.parameters()).device
        self.teacher_forced = NextFrameR2().to(device)
        self.free_running = NextFrameR2().to(device)

    def add(self, batch: Batch, raw: Tensor) -> None:
        self.task.add_losses(self.means, batch, raw)
        frames, head = self.task.frames(batch), self.task.head
        self.teacher_forced.update(
            estimate=head.decode(raw).to(frames.dtype),
            target=frames[:, 1:],
            previous=frames[:, :-1],
            mask=batch.active,
            index=batch.index,
        )
        half = frames.shape[1] // 2
        self.free_running.update(
            estimate=self.task.continue_frames(frames[:, :half], frames.shape[1] - half),
            target=frames[:, half:],
            previous=frames[:, half - 1 : -1],
            mask=batch.active,
            index=batch.index,
        )
        self.means.add_beyond("targets_beyond_bounds", frames[:, 1:], head.bounds)
        self.means.add_beyond("outputs_beyond_bounds", head.unclipped(raw), head.bounds)

    def finish(self) -> tuple[dict[str, float], dict[str, list[Any]]]:
        metrics = {name: float(value) for name, value in self.teacher_forced.compute().items()}
        metrics["r2_free_running"] = float(self.free_running.compute()["r2"])
        each = self.teacher_forced.sequences()
        return metrics, {
            self.task.primary: each["r2"].tolist(),
            "index": each["index"].tolist(),
            "squared_error": each["error"].tolist(),
            "energy": each["energy"].tolist(),
        }


def _schedule(
    *, k: float | None, slope: float | None, floor: float, base: float | None
) -> Callable[[int], float] | None:
    """Probability of a true frame at a step; ``None``: always.

    Raises:
        ConfigError: more than one schedule, or a number that it cannot use.
    """
    given: dict[str, Callable[[int], float]] = {}
    if k is not None:
        given["teacher_forcing_k"] = partial(inverse_sigmoid, k=k)
    if slope is not None:
        given["teacher_forcing_slope"] = partial(linear, slope=slope, floor=floor)
    if base is not None:
        given["teacher_forcing_base"] = partial(exponential, base=base)
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(given)} are schedules of their own: set one of them, the others null"
        )
    if floor and slope is None:
        raise ConfigError("teacher_forcing_floor belongs to teacher_forcing_slope: set both")
    for schedule in given.values():
        schedule(0)  # refuses what it cannot use
        return schedule
    return None
