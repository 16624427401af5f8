"""Results of ``serendip fit`` in words, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serendip.statistics.signal_fit import FEW_EVENTS
from serendip.wording import counted

if TYPE_CHECKING:
    from serendip.statistics.signal_fit import SignalFit
    from serendip.statistics.spectrum_fit import MassScan, SpectrumFitResult

__all__ = ["fit_text", "scan_text"]


def fit_text(result: SpectrumFitResult) -> str:
    """A fitted signal, for the terminal."""
    fit, (low, high) = result.fit, result.mass_range
    lines = [
        f"{result.n_events} events in {len(result.counts)} bins, {low:g} to {high:g} GeV; signal {result.signal}",
        *_masked(result.masks),
        *_simulation(result),
        (
            f"signal strength {fit.mu:.4g} +- {fit.mu_error:.2g}; 68 % [{fit.interval_68[0]:.4g}, {fit.interval_68[1]:.4g}], "
            f"95 % [{fit.interval_95[0]:.4g}, {fit.interval_95[1]:.4g}]"
        ),
        *(
            f"{name} {value.value:.6g} +- {value.error:.2g} GeV; 68 % [{value.interval_68[0]:.6g}, {value.interval_68[1]:.6g}], "
            f"95 % [{value.interval_95[0]:.6g}, {value.interval_95[1]:.6g}]"
            for name, value in fit.floats.items()
        ),
        f"intervals: {_how(fit)}",
    ]
    if fit.spread > 0:
        lines.append(f"spread of the strength over background functions {fit.spread:.2g}, part of its error")
    lines.append(_spurious_text(result))
    if fit.p is None:
        lines.append(
            f"{fit.z:.2f} sigma above background alone, where the data have their peak: no p-value of a search (that is --scan)"
        )
    else:
        lines.append(
            f"local p = {fit.p:.3g}, {abs(fit.z):.2f} sigma {'excess' if fit.z > 0 else 'deficit'} (asymptotic; one mass, no trials "
            "factor)"
        )
    if result.toy_p is not None:
        lines.append(f"local p = {result.toy_p:.3g} from toys")
    if result.limit is not None:
        expected = result.limit.expected
        lines.append(
            f"{result.limit.level:.0%} CLs upper limit {result.limit.observed:.4g}; expected {expected[2]:.4g} "
            f"[{expected[1]:.4g}, {expected[3]:.4g}] ({result.limit.method})"
        )
    lines.append(f"background {fit.background}, goodness of fit p = {result.gof_p:.2g}")
    lines += [f"nuisance '{name}': {value:+.2f} standard deviations" for name, value in fit.nuisance.items()]
    if result.gof_p < 0.01:
        lines.append(
            "warning: signal and background together do not describe the spectrum; try --background or --range"
        )
    return "\n".join(lines)


def _masked(masks: tuple[tuple[float, float], ...]) -> list[str]:
    return [f"masked: {', '.join(f'{low:g}-{high:g} GeV' for low, high in masks)}"] if masks else []


def _simulation(result: SpectrumFitResult) -> list[str]:
    if result.simulation is None:
        return []
    merged = (
        f"; {counted(result.negative_bins, 'bin below zero is one with its', 'bins below zero are one with their')} "
        "neighbours"
        if result.negative_bins
        else ""
    )
    return [f"simulated signal: {result.simulation}{merged}"]


def _spurious_text(result: SpectrumFitResult) -> str:
    found = result.measured
    if found is None:
        return f"spurious signal {result.spurious:.3g} events, as given"
    if found.p is None:
        return (
            "spurious signal: not measured, there is no room for the signal at two other masses of the range"
        )
    largest, at = max(zip(found.pulls, found.masses, strict=True), key=lambda pair: abs(pair[0]))
    places = f"the signal at {len(found.masses)} other masses: p = {found.p:.2g} of the pulls, the largest {largest:+.1f} at {at:.4g} GeV"
    if not found.events:
        return f"no spurious signal ({places})"
    return f"spurious signal {found.events:.3g} events, part of the error ({places}; if that is a known resonance, --mask it)"


def _how(fit: SignalFit) -> str:
    under = f"background alone has {fit.under_signal:.3g} events under the signal"
    if fit.intervals == "likelihood":
        few = fit.floats and fit.under_signal < FEW_EVENTS
        return f"likelihood ({under}{'; so few that they may be too short' if few else ''})"
    return f"{fit.intervals} toys at each strength ({under}; the strength is not negative)"


def scan_text(found: MassScan) -> str:
    """A scan of masses, for the terminal."""
    scan = found.scan
    best = scan.best
    low, high = scan.p_interval_68
    lines = [
        f"{counted(len(scan.mass), 'mass', 'masses')} from {scan.mass[0]:g} to {scan.mass[-1]:g} GeV, background {', '.join(found.background)}",
        *(f"{line}; no mass is tested there" for line in _masked(found.masks)),
        f"largest excess at {scan.mass[best]:.4g} GeV: {scan.mu[best]:.4g} events, {scan.z[best]:.2f} sigma local",
        f"global p = {scan.p_global:.3g} [{low:.2g}, {high:.2g}], {scan.z_global:.2f} sigma ({scan.n_toys} toys, refitted)",
    ]
    if scan.gross_vitells is not None:
        lines.append(
            f"Gross-Vitells estimate: p = {scan.gross_vitells:.3g} ({scan.crossings:.2f} up-crossings of 1 sigma on average)"
        )
    elif scan.z[best] > 1:
        lines.append(
            f"Gross-Vitells estimate: does not hold, {scan.fewest_background:.2g} background events lie under some of the signals; "
            "trust the toys, or end the scan earlier"
        )
    return "\n".join(lines)
