"""What a sweep over a part can choose from: every entry in ``conf/`` that fits its task."""

from functools import cache

from lightning_sep.errors import ConfigError
from lightning_sep.settings import compose, entries, locate
from lightning_sep.settings.fitting import fitting


@cache
def heads_for(task: str) -> tuple[str, ...]:
    """The heads that serve a task, by name; a new entry in ``conf/head`` is among them by itself.

    Args:
        task: an entry of ``conf/task``.

    Raises:
        ConfigError: there is no such task.

    Example:
        >>> "tanh" in heads_for("separation"), "tanh" in heads_for("verification")
        (True, False)
    """
    if task not in entries("task"):
        raise ConfigError(f"no task {task!r} in conf/task. Known: {', '.join(entries('task'))}")
    return tuple(fitting("head", locate(compose([f"task={task}"]).tree["task"])))
