"""The view of a W&B project that shows its boards: made once, where `wandb-workspaces` is there."""

import json
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_sep.errors import one_line
from lightning_sep.fsio import write_json
from lightning_sep.terminal import plain

NAME = "lightning_sep boards"
KEPT = "wandb-views.json"  # in the folder of all runs: the views that were made, by project
_BETTER = {"max": "higher is better", "min": "lower is better"}


def offer_view(entity: str, project: str, monitors: Iterable[tuple[str, str]], home: Path) -> None:
    """Save a view of a project, unless this home has made one; says so, or why not, in a line.

    Settings are W&B's groups: seeds are averaged, and ordered by the test score of the board.

    Args:
        entity: W&B user or team.
        project: W&B project.
        monitors: the validation metrics of its boards, each with ``"max"`` or ``"min"``.
        home: folder of all runs.
    """
    key = f"{os.environ.get('WANDB_BASE_URL', '')}/{entity}/{project}"
    kept = _kept(home)
    if key in kept:
        return
    try:
        if not os.access(home, os.W_OK):
            raise OSError(f"{home} cannot be written, where it would be noted")
        url = _save(entity, project, sorted(set(monitors)))
        write_json(home / KEPT, {**kept, key: url})
    except ImportError:
        said = "makes one: pip install 'lightning_sep[workspaces]'"
        print(f"W&B has no view of the boards yet; `sync` {said}", file=sys.stderr, flush=True)
    except Exception as error:  # a picture of what is there must not fail an upload that is done
        text = plain(one_line(error))
        print(f"lightning-sep: no view of the boards at W&B: {text}", file=sys.stderr, flush=True)
    else:
        print(f"view of the boards: {url}", flush=True)


def _kept(home: Path) -> dict[str, str]:
    try:
        kept = json.loads((home / KEPT).read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _save(entity: str, project: str, monitors: list[tuple[str, str]]) -> str:
    panels: Any = import_module("wandb_workspaces.reports.v2")  # typed in part
    workspaces: Any = import_module("wandb_workspaces.workspaces")
    sections, order = [], []
    for name, mode in monitors:
        score = f"test/{name.partition('/')[2]}"
        by_group = {"groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
        curves = panels.LinePlot(title=f"{name}, {_BETTER[mode]}", x="epoch", y=[name], **by_group)
        scores = panels.BarPlot(
            title=f"{score} of each setting, {_BETTER[mode]}",
            metrics=[score],
            **by_group,
        )
        sections.append(
            workspaces.Section(name=f"Board by {score}", panels=[scores, curves], is_open=True)
        )
        order.append(workspaces.Ordering(workspaces.Summary(score), ascending=mode == "min"))
    view = workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis="epoch"),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Metric("Group")], order=order
        ),
    )
    return str(view.save().url)
