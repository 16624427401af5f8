"""Findings of the leak audit, as values and as text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["EdgeLeak", "FormLeak", "LeakReport", "Separation"]

Sample = Literal["background", "signal"]


@dataclass(frozen=True)
class EdgeLeak:
    r"""One sample stops where the other goes on.

    Attributes
    ----------
    feature, quantity
        The most significant feature, and its quantity.
    side
        ``upper`` or ``lower``.
    edge
        Outermost value of the sample that stops.
    stops
        Which sample stops.
    none_of
        Events of that sample; none of them is beyond.
    limit
        95 % CL upper limit of its fraction beyond the edge.
    beyond, of
        Events of the other sample beyond the edge, and all of them.
    fraction, fraction_low, fraction_high
        Of these, with the 68 % Clopper-Pearson interval.
    objects_beyond, objects
        The same for single objects; None for a property of the event.
    expected
        Events of the sample that stops that would lie just beyond the edge, if it followed the other one.
    si_limit
        Significance improvement of the cut at this edge is at least this: :math:`\varepsilon_S/\sqrt{\varepsilon_B}`, both at
        their one-sided 95 % limits.
    log10_p, log10_p_global
        Of the step (:func:`~serendip.theories.leaks.tests.support_edge`), alone and among all tests of the audit.
    also
        Other numbers that show an edge, but no longer once the events beyond this one are taken away.
    """

    feature: str
    quantity: str
    side: Literal["upper", "lower"]
    edge: float
    stops: Sample
    none_of: int
    limit: float
    beyond: int
    of: int
    fraction: float
    fraction_low: float
    fraction_high: float
    objects_beyond: int | None
    objects: int | None
    expected: float
    si_limit: float
    log10_p: float
    log10_p_global: float
    also: tuple[str, ...] = ()

    def si(self, eps_b: float = 1e-4) -> float:
        """Significance improvement at this background efficiency, if the background beyond the edge is truly none.

        A cut at the edge with background added at random up to ``eps_b``; only for edges of the background, NaN
        otherwise.
        """
        return self.fraction / math.sqrt(eps_b) if self.stops == "background" else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        si = self.si()
        return {**asdict(self), "also": list(self.also), "si_1e-4": None if math.isnan(si) else si}

    def __str__(self) -> str:
        other = "signal" if self.stops == "background" else "background"
        sign = ">" if self.side == "upper" else "<"
        objects = (
            "" if self.objects is None else f"; {self.objects_beyond:,} of {self.objects:,} of its objects"
        )
        place = (
            f"{self.feature} {sign} {self.edge:.6g}: {self.beyond:,} of {self.of:,} {other} events "
            f"({self.fraction:.4f}, {self.fraction_low:.4f} to {self.fraction_high:.4f}){objects}; "
            f"0 of {self.none_of:,} {self.stops} events (< {self.limit:.2g} at 95 % CL)"
        )
        step = (
            f"  {self.expected:.1f} {self.stops} events would lie just beyond, if it followed the {other}; "
            f"p = {_power(self.log10_p)}, {_power(self.log10_p_global)} among all tests"
        )
        lines = [place, step]
        if self.stops == "background":
            lines.append(
                f"  SI of this cut at least {self.si_limit:.1f}; {self.si():.1f} at eps_B = 1e-4 if the background has none"
            )
        else:
            lines.append(f"  SI of this veto at least {self.si_limit:.2f}")
        if self.also:
            lines.append(f"  the same in: {', '.join(self.also)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class FormLeak:
    """The numbers of the samples were written or ordered differently.

    Attributes
    ----------
    kind
        ``point mass``, ``digits``, ``repeats`` or ``rule``.
    feature
        The number or rule.
    background, background_of, signal, signal_of
        In how many of how many cases.
    text
        Description of the count.
    log10_p, log10_p_global
        That both fractions are equal (for repeats: within a factor of ten), alone and among all tests.
    """

    kind: Literal["point mass", "digits", "repeats", "rule"]
    feature: str
    background: int
    background_of: int
    signal: int
    signal_of: int
    text: str
    log10_p: float
    log10_p_global: float

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.feature}: {self.text}: {self.background:,} of {self.background_of:,} in the background, "
            f"{self.signal:,} of {self.signal_of:,} in the signal; p = {_power(self.log10_p_global)} among all tests"
        )


@dataclass(frozen=True)
class Separation:
    """How well one number alone separates the samples.

    Attributes
    ----------
    feature
        Its name.
    auc, auc_error
        Probability that signal is larger, among events that have it, with the error after DeLong et al., Biometrics 44
        (1988) 837. NaN if one sample has fewer than 20 such events.
    cut
        Best one- or two-sided cut; empty if there is none with enough background.
    eps_s, eps_s_interval, eps_b, eps_b_interval
        Efficiencies of the cut among all events, with 68 % Clopper-Pearson intervals. As the cut was chosen for its SI, they are
        somewhat too good.
    si
        ``eps_s / sqrt(eps_b)``.
    construction
        Whether this number is part of a leak.
    """

    feature: str
    auc: float
    auc_error: float
    cut: str
    eps_s: float
    eps_s_interval: tuple[float, float]
    eps_b: float
    eps_b_interval: tuple[float, float]
    si: float
    construction: bool

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values; NaN becomes None."""
        result = asdict(self)
        for key, value in result.items():
            if isinstance(value, tuple):
                result[key] = list(value)
            elif isinstance(value, float) and not math.isfinite(value):
                result[key] = None
        return result


@dataclass(frozen=True)
class LeakReport:
    """Result of :func:`~serendip.theories.leaks.comparison.audit`.

    Attributes
    ----------
    background_events, signal_events
        Number of events.
    tests
        Number of tests of construction; p-values are multiplied with it.
    level
        Global p-value below which a difference is called a leak.
    edges, forms
        The leaks: edges with the largest SI first, and differences of form.
    hints
        Edges with a local p below 0.001 that are not leaks at this level, also without the events beyond the leaks. Chance
        gives ``0.001 * tests`` at most.
    constant
        Numbers with one value in one sample and several in the other. A veto or physics: this is for you to decide.
    separations
        Every single number, the largest distance of the AUC from 0.5, less its error, first.
    """

    background_events: int
    signal_events: int
    tests: int
    level: float
    edges: tuple[EdgeLeak, ...]
    forms: tuple[FormLeak, ...]
    hints: tuple[EdgeLeak, ...]
    constant: tuple[tuple[str, Sample, float], ...]
    separations: tuple[Separation, ...]

    @property
    def clean(self) -> bool:
        """True if nothing separates the samples by construction."""
        return not self.edges and not self.forms

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {
            "background_events": self.background_events,
            "signal_events": self.signal_events,
            "tests": self.tests,
            "level": self.level,
            "clean": self.clean,
            "edges": [edge.to_dict() for edge in self.edges],
            "forms": [form.to_dict() for form in self.forms],
            "hints": [hint.to_dict() for hint in self.hints],
            "constant": [{"feature": f, "sample": s, "value": v} for f, s, v in self.constant],
            "separations": [separation.to_dict() for separation in self.separations],
        }

    def __str__(self) -> str:
        samples = (
            f"{self.background_events:,} background and {self.signal_events:,} signal events, {self.tests:,} tests of "
            f"construction at a global level of {self.level:g}"
        )
        lines = [samples, "", f"Separated by construction:{' nothing found' if self.clean else ''}"]
        for i, leak in enumerate((*self.edges, *self.forms), 1):
            lines += [f"{i}. " + str(leak).replace("\n", "\n   ")]
        if self.hints:
            lines += ["", f"Possible leaks ({0.001 * self.tests:.1f} by chance):"]
            lines += [
                f"- {h.feature} {'>' if h.side == 'upper' else '<'} {h.edge:.6g}: {h.beyond:,} events of the "
                f"{'signal' if h.stops == 'background' else 'background'}, none of the {h.stops}; p = {_power(h.log10_p)}"
                for h in self.hints
            ]
        if self.constant:
            lines += ["", "One value in one sample, several in the other (a veto, or physics):"]
            lines += [f"- {name} = {value:g} in the {sample}" for name, sample, value in self.constant]
        physics = [s for s in self.separations if not s.construction and math.isfinite(s.auc)][:10]
        if physics:
            lines += ["", "Separated smoothly, as by physics (the ten strongest):"]
            lines += [
                f"- {s.feature}: AUC {s.auc:.3f} ± {s.auc_error:.3f}"
                + (f"; {s.cut}: eps_S {s.eps_s:.3f}, eps_B {s.eps_b:.4f}, SI {s.si:.2f}" if s.cut else "")
                for s in physics
            ]
        return "\n".join(lines)


def _power(log10_p: float) -> str:
    if log10_p > -3:
        return f"{10.0**log10_p:.2g}"
    exponent = math.floor(log10_p)
    return f"{10 ** (log10_p - exponent):.1f}e{exponent}"
