"""How runs are mirrored: the settings, and what W&B's own variables say besides."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_sep.checks import refusal, whole_number
from lightning_sep.errors import ConfigError
from lightning_sep.tracking.dashboard import Mirror
from lightning_sep.tracking.tracker import Tracker

Mode = Literal["offline", "online", "disabled"]
_MODES: tuple[Mode, ...] = get_args(Mode)
# What W&B called them before, or takes besides.
_OTHER_WORDS: dict[str, Mode] = {
    "dryrun": "offline",
    "run": "online",
    "shared": "online",
    "true": "online",
    "false": "disabled",
}
PROJECT = "lightning-sep"


class Tracking:
    """How runs are mirrored to W&B.

    Args:
        mode: ``"offline"``, ``"online"`` or ``"disabled"``; ``None`` takes ``WANDB_MODE`` or
            ``"offline"``.
        project: W&B project; ``None`` takes ``WANDB_PROJECT`` or ``"lightning-sep"``.
        entity: W&B user or team; ``None`` takes ``WANDB_ENTITY`` or the default of the account.
        audio_examples: test examples whose audio is written and logged, per run.
        checkpoint: whether the best epoch's weights go to W&B too, as an artifact.

    Raises:
        ConfigError: an unknown mode in ``WANDB_MODE``, or a project that W&B cannot have.
    """

    def __init__(
        self,
        *,
        mode: Mode | None = None,
        project: str | None = None,
        entity: str | None = None,
        audio_examples: int = 2,
        checkpoint: bool = False,
    ) -> None:
        whole_number("audio_examples", audio_examples, at_least=0)
        project = project if project is not None else os.environ.get("WANDB_PROJECT") or PROJECT
        if not project or set(project) & set("/\\#?%:"):
            raise refusal("project", project, "W&B needs a name without any of / \\ # ? % :")
        chosen = mode or os.environ.get("WANDB_MODE") or "offline"
        word = _OTHER_WORDS.get(chosen.lower(), chosen.lower())
        known = next((one for one in _MODES if one == word), None)
        if known is None:
            raise ConfigError(f"WANDB_MODE={chosen!r} is not a mode. Known: {', '.join(_MODES)}")
        self.mode: Mode = known
        self.project = project
        self.entity = entity or os.environ.get("WANDB_ENTITY") or None
        self.audio_examples = audio_examples
        self.checkpoint = checkpoint

    def mirror(self, folder: Path, about: Mapping[str, Any]) -> Mirror:
        """What W&B is told of a run.

        Args:
            folder: the run's folder.
            about: what its record says or will say; see :meth:`Mirror.of`.
        """
        return Mirror.of(
            about,
            home=folder.parent,
            project=self.project,
            entity=self.entity,
            checkpoint=self.checkpoint,
        )

    def open(self, folder: Path, about: Mapping[str, Any]) -> Tracker:
        """A tracker of one run; the arguments are those of `mirror`."""
        return Tracker(self.mirror(folder, about), folder=folder, mode=self.mode)
