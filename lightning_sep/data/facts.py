"""What examples say about the set that they are drawn from: a class per kind of examples.

They go from the data to the task, and as plain JSON into checkpoints and records, out of which a
trained run takes them again.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar, get_type_hints

from lightning_sep.errors import DataError
from lightning_sep.settings.signature import accepts, converted
from lightning_sep.settings.words import needs

Kind = TypeVar("Kind", bound="Facts")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What every kind of examples says.

    Args:
        sample_rate: in Hz.
        channels: of each recording.
        remarks: what numbers that are measured on the set cannot say, a line each.
    """

    sample_rate: int
    channels: int = 1
    remarks: tuple[str, ...] = ()

    def classes(self) -> list[tuple[str, ...]]:
        """What each label of a batch is called, and its group where there are any."""
        return []

    def plain(self) -> dict[str, Any]:
        """As JSON types, by field."""
        return {name: _plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class MixtureFacts(Facts):
    """Of mixtures with their sources.

    Args:
        segment_samples: of a mixture, as far as it is scored.
        context_samples: on either side of that, in the batch too.
        sources: in a mixture.
        class_names: what labels count.
        group_names: of all groups.
        class_groups: the group of each class; ``None`` where there are none.
        normalise: what sets the level of a mixture.
    """

    segment_samples: int
    context_samples: int = 0
    sources: int
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    class_groups: tuple[str, ...] | None = None
    normalise: str = "none"

    def classes(self) -> list[tuple[str, ...]]:
        """See :meth:`Facts.classes`."""
        if self.class_groups is None:
            return [(name,) for name in self.class_names]
        return list(zip(self.class_names, self.class_groups, strict=True))


@dataclass(frozen=True, kw_only=True)
class SequenceFacts(Facts):
    """Of frames in a row.

    Args:
        gain: what samples are multiplied by.
        frame_samples: of a frame.
        frames: of a sequence.
        train_statistics: of the recordings of the training part, before the gain.
        group: that is drawn from.
        class_names: what labels count.
    """

    gain: float
    frame_samples: int
    frames: int
    train_statistics: Mapping[str, float]
    group: str = "all"
    class_names: tuple[str, ...] = ()

    def classes(self) -> list[tuple[str, ...]]:
        """See :meth:`Facts.classes`."""
        return [(name,) for name in self.class_names]


@dataclass(frozen=True, kw_only=True)
class SnippetFacts(Facts):
    """Of snippets of speakers.

    Args:
        segment_samples: of a snippet.
        speakers: in a training batch.
        snippets: of each of them.
        speaker_names: what labels count.
        train_speakers: how many speakers the training part has.
        train_numbers: their labels, ascending; empty in what was written before they were kept.
    """

    segment_samples: int
    speakers: int
    snippets: int
    speaker_names: tuple[str, ...] = ()
    train_speakers: int
    train_numbers: tuple[int, ...] = ()


def facts_from(kind: type[Kind], plain: Mapping[str, Any]) -> Kind:
    """The facts that a record or a checkpoint holds.

    Args:
        kind: what they have to be.
        plain: JSON types, by field.

    Raises:
        DataError: fields are missing, unknown, or of another type; the message names all of them.
    """
    hints = get_type_hints(kind)
    required = [one.name for one in fields(kind) if one.default is MISSING]
    problems = [f"{name} is missing" for name in required if name not in plain]
    problems += [f"{name} is not known" for name in plain if name not in hints]
    problems += [
        f"{name} = {value!r}: {needs(hints[name])} is needed"
        for name, value in plain.items()
        if name in hints and not accepts(value, hints[name])
    ]
    if problems:
        raise DataError(
            f"recorded facts are no {kind.__name__}: {'; '.join(problems)}. They were written by "
            "another version, or changed: train again, or use the version that wrote them"
        )
    return kind(**{name: converted(value, hints[name]) for name, value in plain.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
