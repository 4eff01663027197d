"""A run is its settings: the identity of a run is a hash of everything that can change its numbers.

All resolved settings count, never their difference from the defaults, so that a changed default
makes a new run instead of reusing an old one's checkpoints.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from typing import Any

from lightning_sep import sources
from lightning_sep.errors import ConfigError
from lightning_sep.sources import code_hash

# Settings that cannot change a number, by their path in the tree; ``*`` stands for anything.
# Everything else is part of the identity, those still to be invented too.
EXCLUDED = (
    "tracking",
    "launcher",
    "trainer.devices",  # how many share the work stands in the record
    "trainer.nodes",
    "trainer.strategy",
    "trainer.workers",
    "trainer.checkpoint_every_epochs",
    "trainer.checkpoint_every_steps",
    "trainer.checkpoint_every_min",
    "trainer.hang_s",
    "trainer.keep_last",
    "trainer.profiler",
    "trainer.progress",
    "data.keep",  # what it let in is part of the manifests' hash
    "data.channels",  # what they became is part of the manifests' hash
    "data.path",  # the audio itself counts, by the hash of the manifests
    "data.cache_limit_mb",  # what does not fit is read from files: slower, the same samples
)
# Settings that came later, at the value that means what was before: they do not count, so that
# the settings of an old run have the hash that they had.
LATER: dict[str, Any] = {
    "init_from": None,
    "task.order": "any",
    "task.embedding": "head",
    "trainer.accumulate": 1,
    "trainer.ema": None,
    "trainer.limit_batches": None,
    "trainer.fast_dev_run": False,
    "trainer.callbacks": [],
    "examples.segment_samples": None,
    "examples.context_samples": 0,
}
_NO_PLUGINS = frozenset({"lightning_sep", "torch"})
_DIGITS = 12  # 48 bits: among a million runs two alike have a chance of 0.2 %


def run_id(
    tree: Mapping[str, Any],
    data_hashes: Mapping[str, str] | str,
    *,
    code: str | None = None,
    plugins: Mapping[str, str] | None = None,
) -> str:
    """The identity of a run, 12 hexadecimal digits; it names the folder and the W&B run.

    ``1`` and ``1.0`` are one number here, ``true`` and ``1`` are not, and the order of keys does
    not count; the order of a list does.

    Args:
        tree: resolved settings (``Settings.tree``).
        data_hashes: hash of each corpus's manifests by its name, or the one hash.
        code: hash of this package's sources that the settings reach; of the running ones by
            default.
        plugins: fingerprint of each package of the user's own that the settings name; read from
            the installed packages by default.
    """
    identity = {
        "settings": counted(tree),
        "data": data_hashes if isinstance(data_hashes, str) else dict(data_hashes),
        "code": code_hash(targets(counted(tree))) if code is None else code,
        "plugins": dict(plugin_fingerprints(tree) if plugins is None else plugins),
    }
    return _digest(identity)


def config_hash(tree: Mapping[str, Any]) -> str:
    """What repeats over seeds have in common: the settings that count, without the seed."""
    return _digest({key: value for key, value in counted(tree).items() if key != "seed"})


def counted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that count: without those in ``EXCLUDED``, and those in ``LATER`` that change
    nothing. Of the run that a run begins with, its weights count, not its name."""
    kept = _without_excluded(tree, "")
    if isinstance(kept.get("init_from"), str):
        kept["init_from"] = kept["init_from"].rpartition("@")[2]
    return kept


def code_versions(class_paths: Iterable[str]) -> dict[str, str]:
    """Hash of our own code that classes reach, and the fingerprint of each other package."""
    paths = list(class_paths)
    roots = {path.split(".")[0] for path in paths} - _NO_PLUGINS
    return {"code": code_hash(paths)} | {root: plugin_fingerprint(root) for root in sorted(roots)}


def plugin_fingerprints(tree: Mapping[str, Any]) -> dict[str, str]:
    """Version and source hash of each package outside this one and torch that the settings name."""
    roots = {target.split(".")[0] for target in targets(counted(tree))}
    return {root: plugin_fingerprint(root) for root in sorted(roots - _NO_PLUGINS)}


def refuse_edited(tree: Mapping[str, Any]) -> None:
    """See that what was imported for these settings is what their run id says.

    A head that a sweep reaches late is imported late: it may have been edited since its source was
    hashed. What is imported already may be edited: this process computes with what it has.

    Raises:
        ConfigError: a source was edited before this process imported it.
    """
    named = list(targets(counted(tree)))
    files = [sources.file_of(module) for module in sources.reached(named)]
    for root in sorted({target.split(".")[0] for target in named} - _NO_PLUGINS):
        files += [path for _, path in sources.plugin_files(root)]
    edited = sources.edited(files)
    if edited:
        raise ConfigError(
            f"{', '.join(map(str, edited))} was edited after this process had begun, and before it "
            "was used: its numbers would be those of the new code under the old one's run id. Say "
            "the same command again"
        )


def _without_excluded(node: Mapping[str, Any], where: str) -> dict[str, Any]:
    kept = {}
    for key, value in node.items():
        path = f"{where}{key}"
        if any(fnmatchcase(path, pattern) for pattern in EXCLUDED):
            continue
        if path in LATER and value == LATER[path]:
            continue
        kept[key] = _without_excluded(value, f"{path}.") if isinstance(value, Mapping) else value
    return kept


def targets(node: object) -> Iterator[str]:
    """The class paths in a tree of settings."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets(value)


@cache
def plugin_fingerprint(root: str) -> str:
    """``version+hash``: a version alone does not change while its author tries things."""
    try:
        version = metadata.version(root)
    except metadata.PackageNotFoundError:
        version = "unpackaged"
    files = sources.plugin_files(root)
    digest = hashlib.sha256()
    for folder, path in sorted(files, key=lambda pair: pair[1].relative_to(pair[0]).as_posix()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{version}+{digest.hexdigest()[:_DIGITS]}"


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _digest(identity: Mapping[str, Any]) -> str:
    text = json.dumps(_canonical(identity), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
