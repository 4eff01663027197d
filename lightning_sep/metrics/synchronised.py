"""Reading a metric's state over all processes, outside of ``compute``."""

from collections.abc import Iterator
from contextlib import contextmanager

from torchmetrics import Metric


@contextmanager
def all_processes(metric: Metric) -> Iterator[None]:
    """A context in which the state holds what every process added; all processes must enter it.

    Within ``compute`` torchmetrics has joined the states already, and without a process group
    there is nothing to join.
    """
    if metric._is_synced:
        yield
        return
    with metric.sync_context():
        yield
