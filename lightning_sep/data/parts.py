"""Which rows of a table are the parts of one mixture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.examples import Index
from lightning_sep.errors import DataError


@dataclass(frozen=True)
class Parts:
    """The parts of each mixture of a split, aligned.

    Args:
        names: of the mixtures, in alphabetical order, ``[mixture]``.
        rows: ``[mixture, stem]`` rows of the table.
        samples: ``[mixture]`` length of each.
    """

    names: list[str]
    rows: Index
    samples: Index

    @classmethod
    def of(cls, prepared: Prepared, table: Table, stems: Sequence[str], split: str) -> "Parts":
        """Put together the rows of ``table`` that belong together, a column for each stem.

        Raises:
            DataError: there are none, one lacks a stem, or its stems are of different lengths.
        """
        wanted = [prepared.stem_names.index(stem) for stem in stems]
        table_rows = np.flatnonzero(np.isin(table.stem, wanted) & (table.mixture >= 0))
        where = f"{split} part of {prepared.name}"
        if not len(table_rows):
            raise DataError(f"the {where} has no mixtures with {', '.join(stems)}")
        present, place = np.unique(table.mixture[table_rows], return_inverse=True)
        rows = np.full((len(present), len(wanted)), -1)
        column = {stem: number for number, stem in enumerate(wanted)}
        columns = np.array([column[stem] for stem in table.stem[table_rows].tolist()])
        rows[place, columns] = table_rows
        samples = np.where(rows >= 0, table.samples[rows], -1)
        bad = (samples != samples[:, :1]).any(axis=1) | (rows < 0).any(axis=1)
        if bad.any() or len(table_rows) != rows.size:
            name = prepared.mixture_names[present[bad.argmax()]]
            raise DataError(
                f"the {where} has mixtures whose stems ({', '.join(stems)}) are missing, twice "
                f"there or of different lengths, such as {name}: prepare it again"
            )
        return cls([prepared.mixture_names[number] for number in present], rows, samples[:, 0])
