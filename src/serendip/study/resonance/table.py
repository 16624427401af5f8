r"""Events of a channel as the table of a search for a resonance.

The mass is that of the two leading jets, or with the missing momentum (arXiv:2112.11125)

.. math:: M_T^2 = m_{jj}^2 + 2\left(\sqrt{m_{jj}^2 + p_{T,jj}^2}\; p_T^\mathrm{miss}
    - \vec p_{T,jj} \cdot \vec p_T^{\,\mathrm{miss}}\right),

in which a resonance of jets and neutrinos peaks close to its mass. The features are ratios, angles and numbers, so that they depend on
the mass as little as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from serendip.errors import InputError

__all__ = [
    "COUNTS",
    "FEATURES",
    "Flattening",
    "MassName",
    "Unweighted",
    "one_per_group",
    "resonant_table",
    "unweight",
]

MassName = Literal["mt_jj", "m_jj"]

FEATURES = (
    "met_over_mass",
    "min_dphi_met",
    "pt2_over_pt1",
    "m1_over_pt1",
    "m2_over_pt2",
    "n_jets",
    "n_b",
    "n_leptons",
)
"""Features of :func:`resonant_table`, in their order."""

COUNTS = ("n_jets", "n_b", "n_leptons")
"""Those that are whole numbers."""

_LEADING = ("j1", "j2", "b1", "b2")
_LEPTONS = ("n_em", "n_ep", "n_mm", "n_mp")
_KNOTS = np.linspace(-2.0, 2.5, 10)
_FEWEST_ABOVE = 25.0
_MOST_STEPS = 500
_FEWEST_TO_FLATTEN = 200.0

Array = NDArray[np.float64]


def resonant_table(
    x: NDArray[Any], features: Sequence[str], *, mass: MassName = "mt_jj", max_delta_eta: float = 1.3
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    r"""Mass and features of events in the flat encoding (:func:`~serendip.theories.encoding.encode`).

    Parameters
    ----------
    x, features
        Encoded events, shape ``(n, n_features)``, and the names of the columns. Without a column ``met_phi`` events are turned to MET.
    mass
        ``"mt_jj"``: transverse mass of the two leading jets (b-jets included) and the missing momentum; ``"m_jj"``: their invariant mass.
    max_delta_eta
        Events with :math:`|\Delta\eta|` of the two leading jets at or above are left out: QCD jets at large :math:`|\Delta\eta|` have large masses
        at small momenta.

    Returns
    -------
    columns, rows
        Column ``mass`` (GeV) and those of :data:`FEATURES`, shape ``(n_kept,)``, and the rows of ``x`` that were kept: those with
        two jets that are close enough in :math:`\eta`.

    Raises
    ------
    InputError
        If a column is missing or an option is not valid.
    """
    if mass not in ("mt_jj", "m_jj"):
        raise InputError(f"the mass can be 'mt_jj' or 'm_jj', not '{mass}'")
    if not max_delta_eta > 0:
        raise InputError(f"max_delta_eta is {max_delta_eta}; expected a positive number")
    place = {name: i for i, name in enumerate(features)}
    needed = [f"{jet}_{part}" for jet in _LEADING for part in ("energy", "pt", "eta", "phi")]
    needed += ["met", "n_j", "n_b", *_LEPTONS]
    if missing := [name for name in needed if name not in place]:
        raise InputError(f"column '{missing[0]}' is missing; the table needs the flat encoding")

    def column(name: str) -> Array:
        return np.asarray(x[:, place[name]], dtype=np.float64)

    jets = np.stack(
        [
            np.stack([column(f"{jet}_{part}") for jet in _LEADING], axis=1)
            for part in ("energy", "pt", "eta", "phi")
        ]
    )
    # an empty slot has zero pT and comes last
    order = np.argsort(-jets[1], axis=1, kind="stable")[:, :2]
    energy, pt, eta, phi = (np.take_along_axis(values, order, axis=1) for values in jets)
    rows = np.flatnonzero((pt[:, 1] > 0) & (np.abs(eta[:, 0] - eta[:, 1]) < max_delta_eta))
    energy, pt, eta, phi = (values[rows] for values in (energy, pt, eta, phi))
    met = column("met")[rows]
    met_phi = column("met_phi")[rows] if "met_phi" in place else np.zeros(len(rows))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    jet_mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    sum_x, sum_y = px.sum(axis=1), py.sum(axis=1)
    squared = np.maximum(energy.sum(axis=1) ** 2 - sum_x**2 - sum_y**2 - pz.sum(axis=1) ** 2, 0.0)
    if mass == "mt_jj":
        transverse = np.sqrt(squared + sum_x**2 + sum_y**2)
        along = sum_x * np.cos(met_phi) + sum_y * np.sin(met_phi)
        squared = np.maximum(squared + 2 * met * (transverse - along), 0.0)
    value = np.sqrt(squared)
    usable = value > 0
    distance = np.abs(np.mod(phi - met_phi[:, None] + np.pi, 2 * np.pi) - np.pi)
    columns = {
        "mass": value,
        "met_over_mass": met / np.where(usable, value, 1.0),
        "min_dphi_met": distance.min(axis=1),
        "pt2_over_pt1": pt[:, 1] / pt[:, 0],
        "m1_over_pt1": jet_mass[:, 0] / pt[:, 0],
        "m2_over_pt2": jet_mass[:, 1] / pt[:, 1],
        "n_jets": column("n_j")[rows] + column("n_b")[rows],
        "n_b": column("n_b")[rows],
        "n_leptons": np.sum([column(name)[rows] for name in _LEPTONS], axis=0),
    }
    return {name: values[usable] for name, values in columns.items()}, rows[usable]


def one_per_group(
    group: NDArray[np.int64], weight: ArrayLike, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    """Keep one random event of each group, with the weight of the whole group.

    Events that share particles (one generated event that was measured several times) must not stand in training and test folds of
    a search, and their counts are not Poisson. A member drawn in proportion to the weights, with their sum as its weight, leaves every
    expectation as it is.

    Returns
    -------
    rows, weight
        In ascending order of the rows, shape ``(n_groups,)``.
    """
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != np.shape(group) or np.any(~(weights >= 0)):
        raise InputError("one weight that is not negative is needed for each event of the groups")
    # the smallest of exponential numbers with rates w_i is the i-th with probability w_i / sum(w)
    key = np.full(len(weights), np.inf)
    np.divide(rng.exponential(size=len(weights)), weights, out=key, where=weights > 0)
    by_key = np.argsort(key, kind="stable")
    numbers, first, index = np.unique(np.asarray(group)[by_key], return_index=True, return_inverse=True)
    sums = np.bincount(index, weights[by_key], minlength=len(numbers)).astype(np.float64)
    rows = by_key[first].astype(np.int64)
    order = np.argsort(rows)
    return rows[order], sums[order]


@dataclass(frozen=True, eq=False)
class Unweighted:
    r"""Result of :func:`unweight`.

    Attributes
    ----------
    rows
        Accepted events, shape ``(n,)``.
    weight
        Their weights, 1 for most, shape ``(n,)``.
    reference
        Weight that became 1.
    overweight
        Number of accepted events with a weight above 1.
    overweight_share
        Part of the sum of weights that lies above the reference.
    effective
        Effective number of accepted events, :math:`(\sum w)^2 / \sum w^2`.
    """

    rows: NDArray[np.int64]
    weight: Array
    reference: float
    overweight: int
    overweight_share: float
    effective: float

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the arrays as JSON-able values."""
        facts = asdict(self)
        del facts["rows"], facts["weight"]
        return {"events": len(self.rows), **facts}


def unweight(weight: ArrayLike, rng: np.random.Generator, *, max_overweight: float = 0.05) -> Unweighted:
    r"""Accept events with the probability :math:`\min(1, w/w_0)`, so that most of them have the same weight.

    Accepted events have the weight :math:`\max(1, w/w_0)`, which leaves every expectation as it is but for the factor :math:`1/w_0`. The
    reference :math:`w_0` is the smallest one with

    .. math:: \sum_{w_i > w_0} (w_i - w_0) \le f \sum_i w_i,

    with :math:`f` = ``max_overweight``; 0 gives pure accept-reject, in which the single event with the largest weight determines the number of events.

    Raises
    ------
    InputError
        If a weight is negative or not finite, their sum is zero, or the share is not in [0, 1).
    """
    w = np.asarray(weight, dtype=np.float64)
    if not 0 <= max_overweight < 1:
        raise InputError(f"max_overweight is {max_overweight}; expected a number from 0 to below 1")
    if w.ndim != 1 or not np.isfinite(w).all() or np.any(w < 0) or not w.sum() > 0:
        raise InputError("weights must be finite and not negative, with a positive sum")
    total = float(w.sum())
    falling = np.sort(w)[::-1]
    # above the k-th weight: sum of the k heavier ones minus k times it
    above = np.cumsum(falling) - falling * np.arange(1, len(w) + 1)
    k = int(np.searchsorted(above, max_overweight * total, side="right"))
    reference = float((falling[:k].sum() - max_overweight * total) / k)
    reference = min(max(reference, float(falling[min(k, len(w) - 1)])), float(falling[0]))
    rows = np.flatnonzero(rng.random(len(w)) * reference < w)
    kept = np.maximum(w[rows] / reference, 1.0)
    heavy = w > reference * (1 + 1e-12)
    return Unweighted(
        rows=rows,
        weight=kept,
        reference=reference,
        overweight=int(np.count_nonzero(heavy)),
        overweight_share=float((w[heavy] - reference).sum() / total),
        effective=float(kept.sum() ** 2 / (kept**2).sum()),
    )


@dataclass(frozen=True, eq=False)
class Flattening:
    r"""Decorrelates a score from the mass.

    Quantiles of the score of background are fitted as polynomials of second order in :math:`\ln m` (linear quantile regression, Koenker
    and Bassett, Econometrica 46 (1978) 33) at the levels :math:`\Phi(z_k)`. A score becomes the :math:`z` of its place among the quantiles at its
    mass; between them it is interpolated, beyond them extended, so that equal scores stay equal and no others become so.

    Attributes
    ----------
    z
        Normal quantiles of the levels, shape ``(k,)``.
    centre, spread
        Of :math:`\ln m`.
    coefficients
        Shape ``(k, 3)``.
    masses
        Range of the masses that were fitted, GeV; outside, the ends are taken.
    effective
        Effective number of events that were fitted.
    """

    z: Array
    centre: float
    spread: float
    coefficients: Array
    masses: tuple[float, float]
    effective: float

    @classmethod
    def fit(cls, score: ArrayLike, mass: ArrayLike, weight: ArrayLike) -> Flattening:
        """Fit to background.

        Parameters
        ----------
        score, mass, weight
            Background used neither for training the score nor in the search; shape ``(n,)``.

        Raises
        ------
        InputError
            If there are too few events.
        """
        s, m, w = (np.asarray(values, dtype=np.float64) for values in (score, mass, weight))
        effective = float(w.sum() ** 2 / (w**2).sum()) if w.sum() > 0 else 0.0
        if effective < _FEWEST_TO_FLATTEN:
            raise InputError(
                f"{len(w)} background events ({effective:.0f} effective) are too few to take the mass out of a score; at least "
                f"{_FEWEST_TO_FLATTEN:.0f} effective ones are needed: raise flatten_fraction, or give more background"
            )
        log_mass = np.log(m)
        centre, spread = float(log_mass.mean()), float(log_mass.std() or 1.0)
        t = (log_mass - centre) / spread
        design = np.stack([np.ones_like(t), t, t**2], axis=1)
        z = _KNOTS[norm.sf(np.abs(_KNOTS)) * effective >= _FEWEST_ABOVE]
        coefficients = np.stack(
            [_quantile_fit(design, s, w / w.mean(), float(level)) for level in norm.cdf(z)]
        )
        return cls(z, centre, spread, coefficients, (float(m.min()), float(m.max())), effective)

    def __call__(self, score: ArrayLike, mass: ArrayLike) -> Array:
        """Score without the mass, shape ``(n,)``; standard normal for background."""
        s = np.asarray(score, dtype=np.float64)
        t = (np.log(np.clip(np.asarray(mass, dtype=np.float64), *self.masses)) - self.centre) / self.spread
        knots = np.stack([np.ones_like(t), t, t**2], axis=1) @ self.coefficients.T
        # fitted quantiles may cross where there are few events
        knots = np.sort(knots, axis=1)
        gap = 1e-6 * np.maximum(knots[:, -1:] - knots[:, :1], 1e-6)
        knots += gap * np.arange(knots.shape[1])
        upper = np.clip(np.sum(knots <= s[:, None], axis=1), 1, knots.shape[1] - 1)
        at = np.arange(len(s))
        low, high = knots[at, upper - 1], knots[at, upper]
        return np.asarray(self.z[upper - 1] + (self.z[upper] - self.z[upper - 1]) * (s - low) / (high - low))


def _quantile_fit(design: Array, values: Array, weight: Array, level: float) -> Array:
    r"""Coefficients that minimise :math:`\sum_i w_i \rho_q(y_i - x_i \beta)`, by majorisation.

    The absolute value in :math:`\rho_q(r) = (|r| + (2q - 1) r) / 2` is bounded from above by a parabola that touches it at the last
    residual, so that each step is a least-squares fit (Hunter and Lange, J. Comput. Graph. Stat. 9 (2000) 60).
    """
    push = design.T @ (weight * (2 * level - 1))
    beta: Array = np.zeros(design.shape[1])
    beta[0] = np.quantile(values, level)
    tiny = 1e-4 * float(np.std(values)) or 1e-12
    for _ in range(_MOST_STEPS):
        curvature = weight / (tiny + np.abs(values - design @ beta))
        weighted = design * curvature[:, None]
        new = np.linalg.lstsq(weighted.T @ design, weighted.T @ values + push, rcond=None)[0]
        moved = float(np.max(np.abs(design @ (new - beta))))
        beta = np.asarray(new)
        if moved < tiny:
            break
    return beta
