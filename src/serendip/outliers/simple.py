r"""Baselines of one variable: MET, HT, their sum, and the number of objects.

They have nothing to learn. On the Dark Machines data MET alone is about as good as an autoencoder
(arXiv:2105.14027), so every comparison should include them.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError

__all__ = ["Ht", "Met", "MetPlusHt", "Multiplicity"]

_JET_PT = re.compile(r"[jb]\d+_pt")
_COUNT = re.compile(r"n_\w+")


class _OfColumns(OutlierScore):
    """Sum of some columns, found by their names; higher = more anomalous.

    Parameters
    ----------
    columns
        Names of the columns of ``X``, those of :func:`serendip.theories.encoding.encode`. Default: the names of
        the data frame that ``fit`` gets.
    """

    _minimum_events: ClassVar[int] = 1

    def __init__(self, columns: Sequence[str] | None = None) -> None:
        self.columns = columns

    def _fit(self, x: Array, weights: Array) -> None:
        names = getattr(self, "feature_names_in_", None) if self.columns is None else self.columns
        if names is None:
            raise DataError(
                f"{type(self).__name__} finds columns by their names: give columns=... or use a data frame"
            )
        if len(names) != x.shape[1]:
            raise DataError(f"{len(names)} names of columns were given, but there are {x.shape[1]} columns")
        self.used_ = tuple(i for i, name in enumerate(names) if self._uses(str(name)))
        if not self.used_:
            raise DataError(f"{type(self).__name__} found none of its columns: {self._wanted}")

    _wanted: ClassVar[str]

    @abstractmethod
    def _uses(self, name: str) -> bool:
        """Whether the column belongs to the sum."""

    def _score(self, x: Array) -> Array:
        return np.asarray(x[:, list(self.used_)].sum(axis=1), dtype=np.float64)

    def _state(self) -> tuple[Facts, Arrays]:
        return {"used": list(self.used_)}, {"used": np.array(self.used_, dtype=np.int64)}

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.used_ = tuple(int(i) for i in facts["used"])

    def _parameters_to_store(self) -> Facts:
        return {"columns": None if self.columns is None else [str(name) for name in self.columns]}


class Met(_OfColumns):
    """Missing transverse momentum in GeV (column ``met``).

    Parameters
    ----------
    columns
        Names of the columns of ``X``, those of :func:`serendip.theories.encoding.encode`. Default: the names of
        the data frame that ``fit`` gets.
    """

    kind = "met"
    _wanted = "'met'"

    def _uses(self, name: str) -> bool:
        return name == "met"


class Ht(_OfColumns):
    r"""Scalar sum of the :math:`p_T` of the jets, b-jets included, that have a slot; GeV (``j1_pt`` ..., ``b1_pt`` ...).

    Parameters
    ----------
    columns
        As in :class:`Met`.
    """

    kind = "ht"
    _wanted = "'j1_pt', 'b1_pt', ..."

    def _uses(self, name: str) -> bool:
        return _JET_PT.fullmatch(name) is not None


class MetPlusHt(_OfColumns):
    """Sum of :class:`Met` and :class:`Ht` in GeV.

    Parameters
    ----------
    columns
        As in :class:`Met`.
    """

    kind = "met-plus-ht"
    _wanted = "'met', 'j1_pt', 'b1_pt', ..."

    def _uses(self, name: str) -> bool:
        return name == "met" or _JET_PT.fullmatch(name) is not None


class Multiplicity(_OfColumns):
    """Number of reconstructed objects (columns ``n_j``, ``n_b``, ``n_em``, ...). It has many ties.

    Parameters
    ----------
    columns
        As in :class:`Met`.
    """

    kind = "multiplicity"
    _wanted = "'n_j', 'n_b', ..."

    def _uses(self, name: str) -> bool:
        return _COUNT.fullmatch(name) is not None
