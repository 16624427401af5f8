"""Smooth background functions by name.

Which family to choose (where the number of parameters is open, tests choose it, or a count averages over it, see
:func:`~serendip.statistics.fit.fit_spectrum`):

* ``dijet`` - the dijet functions of ATLAS and CMS in ``x = m / sqrt(s)``; four to six parameters. ``dijet:N`` fixes
  it (N = 3 to 6).
* ``auto`` - ``exppoly`` and ``exp`` together: no scale of their own, and so for any spectrum, flat, rising or falling, from
  0.2 GeV to 10 TeV. Degrees from 2 up to 2 plus one for each factor of 1.4 in mass (0.35 in ``ln m``), at most 8: a function that
  bends on a shorter scale would follow a resonance. For the same reason, in a range shorter than that factor, the parabola in the
  exponent must not be narrower than a Gaussian of 5 % of the mass. The default of searches and bump hunts.
* ``exppoly`` - ``exp`` of a polynomial in ``ln m`` (a power law whose exponent runs); degree 3 to 8 chosen by
  tests, ``exppoly:DEGREE`` fixes it.
* ``exp`` - ``exp`` of a polynomial in ``m``; degree 2 to 8 chosen by tests, ``exp:DEGREE`` fixes it (``exp:1``: the
  exponential).
* ``turn-on`` - a dijet function of four or five parameters times ``(1 + tanh((m - p6) / p5)) / 2``, chosen by tests;
  ``turn-on:N`` fixes the number of all parameters (N = 5 to 7). For a fit range that begins on a trigger turn-on.
* ``altexp`` and ``altpower`` - other functions of the same flexibility, four or five parameters chosen by tests,
  ``altexp:N`` and ``altpower:N`` fix it (N = 3 to 5). For tests of the bias of a choice, and for an envelope.

The choices start one order above the smallest function: a curvature too small for the test but not for the window would otherwise be counted as an excess (measured in ``docs/statistics.md``).

* ``poly:DEGREE`` - a polynomial in ``m`` kept positive; for slowly varying spectra such as dimuon sidebands.
* ``bernstein:DEGREE`` - a sum of Bernstein polynomials over the fit range with positive coefficients; for the same spectra.

Every parameter count in this package **includes the normalisation**, and no function depends on the unit of the mass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import special

from serendip.errors import InputError
from serendip.statistics.design import BackgroundFamily, Design, make_design

__all__ = [
    "AUTO",
    "AUTO_DEGREES",
    "CHOICES",
    "BackgroundFamily",
    "Design",
    "efficiency_family",
    "get_family",
    "make_design",
]

Array = NDArray[np.float64]

CHOICES = (
    "auto, dijet, dijet:N (N = 3 to 6), turn-on, turn-on:N (5 to 7), exppoly, exppoly:DEGREE (1 to 8), exp, exp:DEGREE (1 to 8), "
    "altexp, altexp:N (3 to 5), altpower, altpower:N (3 to 5), poly:DEGREE (0 to 8), bernstein:DEGREE (1 to 8)"
)

AUTO = ("exppoly", "exp")
"""Families of ``auto``, each with the degrees of :data:`AUTO_DEGREES`."""
AUTO_DEGREES = (2, 3, 4, 5, 6, 7, 8)

# ``auto`` takes one degree more for each such step of ln m: structure on a shorter scale is a resonance and not background.
# A turn-on bends faster: where such a function does not describe the sidebands of a window, one degree for each second step.
_SMOOTH, _ROUGH = 0.35, 0.1
# In short ranges a parabola could follow a peak that fills a third of them. A real spectrum bends less than this.
_NARROWEST = 0.05

# Numbers of parameters (polynomials: degrees) of the members whose number the name leaves open.
_OPEN = {
    "dijet": (4, 5, 6), "turn-on": (6, 7), "altexp": (4, 5), "altpower": (4, 5),
    "exppoly": (3, 4, 5, 6, 7, 8), "exp": (2, 3, 4, 5, 6, 7, 8),
}  # fmt: skip
# Smallest and largest number that may follow a name.
_NUMBERS = {
    "dijet": (3, 6), "turn-on": (5, 7), "altexp": (3, 5), "altpower": (3, 5),
    "exppoly": (1, 8), "exp": (1, 8), "poly": (0, 8), "bernstein": (1, 8),
}  # fmt: skip


def _dijet_columns(mass: Array, sqrt_s: float) -> Array:
    x = mass / sqrt_s
    log_x = np.log(x)
    return np.stack([np.ones_like(x), np.log1p(-x), -log_x, -(log_x**2), -(log_x**3), -x], axis=-1)


def _turn_on_columns(mass: Array, sqrt_s: float) -> Array:
    dijet = _dijet_columns(mass, sqrt_s)
    one = dijet[..., :1]
    return np.concatenate([one, one, mass[..., None] / 1000.0, dijet[..., 1:5]], axis=-1)


def _altexp_columns(mass: Array, sqrt_s: float) -> Array:
    x = mass / sqrt_s
    log_x = np.log(x)
    return np.stack([np.ones_like(x), -x, -log_x, -(log_x**2), -(log_x**3)], axis=-1)


def _altpower_columns(mass: Array, sqrt_s: float) -> Array:
    x = mass / sqrt_s
    return np.stack([np.ones_like(x), -np.log(x), -x, -(x**2), -(x**3)], axis=-1)


_Columns = Callable[[Array, float], Array]
_Unbound = Callable[[Array], Array]
_IN_X: dict[str, tuple[_Columns, tuple[str, ...]]] = {
    "dijet": (_dijet_columns, ("ln p0", "p1", "p2", "p3", "p4", "p5")),
    "turn-on": (_turn_on_columns, ("ln p0", "t0", "t1", "p1", "p2", "p3", "p4")),
    "altexp": (_altexp_columns, ("ln p0", "a", "b", "c", "d")),
    "altpower": (_altpower_columns, ("ln p0", "a", "b", "c", "d")),
}


def _in_x(spec: str, name: str, orders: tuple[int, ...], sqrt_s: float) -> BackgroundFamily:
    columns, names = _IN_X[name]
    return BackgroundFamily(
        spec=spec,
        members=tuple(f"{name}-{n}" for n in orders),
        n_parameters=orders,
        parameter_names=names[: orders[-1]],
        columns=lambda mass: columns(mass, sqrt_s)[..., : orders[-1]],
        upper=sqrt_s if name in ("dijet", "turn-on") else float("inf"),
        turn_on=(1, 2) if name == "turn-on" else (),
    )


def _unbound(spec: str) -> _Unbound:
    def columns(mass: Array) -> Array:
        msg = f"'{spec}' depends on the fit range: use family.on(edges)"
        raise ValueError(msg)

    return columns


def _bernstein(spec: str, degree: int) -> BackgroundFamily:
    k = np.arange(degree + 1)

    def on_range(low: float, high: float) -> _Unbound:
        norm = (degree + 1) / (high - low) * special.binom(degree, k)

        def columns(mass: Array) -> Array:
            t = np.asarray((mass - low) / (high - low))[..., None]
            return np.asarray(norm * t**k * (1.0 - t) ** (degree - k))

        return columns

    return BackgroundFamily(
        spec=spec,
        members=(f"bernstein-{degree}",),
        n_parameters=(degree + 1,),
        parameter_names=tuple(f"ln c{j}" for j in k),
        columns=_unbound(spec),
        sum_of_terms=True,
        on_range=on_range,
    )


def _polynomial(spec: str, name: str, degrees: tuple[int, ...]) -> BackgroundFamily:
    """Chebyshev polynomials of the mass, or of its logarithm, on the fit range: well conditioned in any range and unit."""
    highest = degrees[-1]
    in_log = name in ("exppoly", "efficiency")

    def on_range(low: float, high: float) -> _Unbound:
        first, last = (np.log(low), np.log(high)) if in_log else (low, high)

        def columns(mass: Array) -> Array:
            x = np.log(mass) if in_log else np.asarray(mass)
            return np.asarray(chebyshev.chebvander((2.0 * x - first - last) / (last - first), highest))

        return columns

    return BackgroundFamily(
        spec=spec,
        members=tuple(f"{name}-{degree}" for degree in degrees),
        n_parameters=tuple(degree + 1 for degree in degrees),
        parameter_names=tuple(f"c{k}" for k in range(highest + 1)),
        columns=_unbound(spec),
        log_linear=name != "poly",
        on_range=on_range,
    )


def _auto(spec: str, highest: int = AUTO_DEGREES[-1], narrowest: float = 0.0) -> BackgroundFamily:
    """All members of :data:`AUTO` up to a degree as alternatives."""
    degrees = tuple(d for d in AUTO_DEGREES if d <= highest)
    parts = tuple(replace(_polynomial(spec, name, degrees), narrowest=narrowest) for name in AUTO)
    return BackgroundFamily(
        spec=spec,
        members=tuple(member for part in parts for member in part.members),
        n_parameters=tuple(n for part in parts for n in part.n_parameters),
        parameter_names=parts[0].parameter_names,
        columns=_unbound(spec),
        alternatives=parts,
        limit=partial(_limited, spec, _SMOOTH),
    )


def _limited(spec: str, step: float, low: float, high: float) -> BackgroundFamily:
    more = int(np.log(high / low) / step)
    return _auto(spec, AUTO_DEGREES[0] + more, _NARROWEST if step == _SMOOTH and not more else 0.0)


def rougher(family: BackgroundFamily) -> BackgroundFamily | None:
    """``auto`` with more degrees in the same range, for sidebands that the smooth one does not describe; None for others."""
    if family.limit is None:
        return None
    return replace(family, limit=partial(_limited, family.spec, _ROUGH))


def efficiency_family(*, smallest: int = 2, largest: int = 3, prior_width: float = 2.0) -> BackgroundFamily:
    """``exp`` of a polynomial in ``ln m`` that multiplies an inclusive spectrum: a selection efficiency.

    The curvature is always fitted: an efficiency with an undetected maximum in the window, as produced by a classifier trained to distinguish the window from its sidebands, otherwise looks like an excess. The prior (a factor
    ``e^2`` over the range for each term) matters below about ten selected events. Calibration:
    ``docs/statistics.md``.
    """
    family = _polynomial("efficiency", "efficiency", tuple(range(smallest, largest + 1)))
    return replace(family, prior_width=prior_width)


def get_family(
    spec: str, sqrt_s: float = 13000.0, gaps: Sequence[tuple[float, float]] = ()
) -> BackgroundFamily:
    r"""Background functions by name.

    ===============  ==========================================================================================
    ``dijet-3``      :math:`p_0 (1-x)^{p_1} x^{-p_2}`, :math:`x = m/\sqrt{s}`
    ``dijet-4``      :math:`p_0 (1-x)^{p_1} x^{-(p_2 + p_3 \ln x)}`
    ``dijet-5``      :math:`p_0 (1-x)^{p_1} x^{-(p_2 + p_3 \ln x + p_4 \ln^2 x)}`
    ``dijet-6``      ``dijet-5`` times :math:`e^{-p_5 x}`
    ``turn-on-n``    ``dijet-(n-2)`` times :math:`\tfrac12 [1 + \tanh(t_0 + t_1 m/\mathrm{TeV})]`
    ``altexp-n``     :math:`p_0 e^{-a x} x^{-(b + c \ln x + d \ln^2 x)}`; n = 3: c = d = 0; n = 4: d = 0
    ``altpower-n``   :math:`p_0 x^{-a} e^{-b x - c x^2 - d x^3}`; n = 3: c = d = 0; n = 4: d = 0
    ``exppoly-d``    :math:`\exp \sum_{k=0}^{d} c_k T_k(u)`, :math:`u = (2 \ln m - \ln l - \ln h)/(\ln h - \ln l)` in a fit
                     range from l to h, with the Chebyshev polynomials :math:`T_k`
    ``exp-d``        :math:`\exp \sum_{k=0}^{d} c_k T_k(v)`, :math:`v = (2 m - l - h)/(h - l)`
    ``poly-d``       :math:`\sum_{k=0}^{d} c_k T_k(v)`, kept positive
    ``bernstein-d``  :math:`\sum_{k=0}^{d} c_k \frac{d+1}{h-l} \binom{d}{k} t^k (1-t)^{d-k}`, :math:`t = (m-l)/(h-l)` in a
                     fit range from l to h; the positive :math:`c_k` sum to the number of events in it
    ===============  ==========================================================================================

    The turn-on is usually written :math:`\tfrac12 [1 + \tanh((m - p_6)/p_5)]`: :math:`p_5 = 1\,\mathrm{TeV}/t_1` and
    :math:`p_6 = -t_0/t_1\,\mathrm{TeV}`. In :math:`t_0, t_1` a spectrum without a turn-on (:math:`t_1 = 0`) is not a singular point.

    Parameters
    ----------
    spec
        ``auto`` (``exppoly`` and ``exp``, degrees by the length of the range), ``dijet`` (4 to 6 parameters, chosen by tests), ``dijet:N`` (exactly
        N), ``exppoly`` (degree 3 to 8, chosen by tests), ``exppoly:DEGREE``, ``exp`` (degree 2 to 8), ``exp:DEGREE``, ``turn-on`` (6 or 7 parameters, chosen by tests), ``turn-on:N``, ``altexp`` and
        ``altpower`` (4 or 5 parameters, chosen by tests), ``altexp:N``, ``altpower:N``, ``poly:DEGREE``,
        ``bernstein:DEGREE``.
    sqrt_s
        Centre-of-mass energy in GeV; only functions of ``x`` use it.
    gaps
        Mass intervals ``(low, high)`` in GeV excluded from all fits: known resonances.

    Raises
    ------
    InputError
        If the name is unknown or the number is out of range.
    """
    return replace(_named(spec, sqrt_s), gaps=tuple((float(low), float(high)) for low, high in gaps))


def _named(spec: str, sqrt_s: float) -> BackgroundFamily:
    name, _, number = spec.strip().lower().partition(":")
    if (name, number) == ("auto", ""):
        return _auto(spec)
    problem = InputError(f"unknown background '{spec}'; expected one of: {CHOICES}")
    if name not in _NUMBERS or (number and not number.isdecimal()):
        raise problem
    value = int(number) if number else None
    smallest, largest = _NUMBERS[name]
    if value is not None and not smallest <= value <= largest:
        raise problem
    if name in _IN_X:
        if not (np.isfinite(sqrt_s) and sqrt_s > 0):
            raise InputError(f"the centre-of-mass energy must be positive, not {sqrt_s:g} GeV")
        return _in_x(spec, name, _OPEN[name] if value is None else (value,), sqrt_s)
    if value is None and name not in _OPEN:
        raise problem
    if name == "bernstein":
        assert value is not None
        return _bernstein(spec, value)
    return _polynomial(spec, name, _OPEN[name] if value is None else (value,))
