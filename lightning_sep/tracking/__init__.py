"""W&B as a mirror of runs, which never breaks what it mirrors. The only room that imports wandb."""

from lightning_sep.tracking.settings import Tracking
from lightning_sep.tracking.tracker import Tracker

__all__ = ["Tracker", "Tracking"]
