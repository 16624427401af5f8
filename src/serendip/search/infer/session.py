"""The densities of a measurement of the signal strength: training, storing, and ln R of the test events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.files import atomic_write
from serendip.methods.background import train_background
from serendip.methods.gbi import Background, SignalModel, half_samples, log_ratio, sideband_transform
from serendip.methods.ranode import Ranode
from serendip.runs.folder import RunDirectory
from serendip.runs.progress import Progress
from serendip.search.folds import event_folds
from serendip.search.infer.config import InferConfig
from serendip.search.measure import WindowFit
from serendip.statistics.functions import get_family
from serendip.statistics.looks import fit_inclusive

__all__ = ["DRAWN", "Session"]

Array = NDArray[np.float64]

DRAWN = 4000
"""Events drawn from each density for the pictures."""

_FEWEST_CONTROL = 100


class Session:
    """The densities of one measurement, ln R of their test events, and the storage of both.

    Parameters
    ----------
    config, run, events, fit
        The settings, the run directory, all events, and the window with the fit of the spectrum.
    threads
        Of a training.
    progress
        Receives progress messages.
    digests
        Content hashes of data and simulated signal.
    blinded
        Whether the events of the window may not be looked at.

    Attributes
    ----------
    expected
        Background events in the window that the fit expects, and the error.
    backgrounds
        After :meth:`learn_background`: p_B of all sideband events, then of each half of them.
    """

    backgrounds: list[Background]

    def __init__(
        self,
        config: InferConfig,
        run: RunDirectory,
        events: Events,
        fit: WindowFit,
        threads: int,
        progress: Progress,
        digests: list[str | None],
        *,
        blinded: bool,
    ) -> None:
        self.config, self.run, self.events, self.fit, self.threads = config, run, events, fit, threads
        self.progress, self.digests, self.blinded = progress, digests, blinded
        self.window, self.seed = fit.window, config.seed
        self.rng = np.random.default_rng([config.seed, 0x6B1])
        self.transform = sideband_transform(events, fit.window, np.random.default_rng([config.seed, 4]))
        self.fold = event_folds(events, config.folds, config.seed)
        self.x = self.transform.dequantise(
            events.x.astype(np.float64), np.random.default_rng([config.seed, 5])
        )
        self.halves = half_samples(
            len(events), config.half_samples, np.random.default_rng([config.seed, 6]), events.groups
        )
        bins = fit.inside
        first, last = int(np.argmax(bins)), int(len(bins) - np.argmax(bins[::-1]))
        self.expected = fit.inclusive.window(first, last)

    def learn_background(self) -> None:
        """Train p_B on the sidebands, and again on each half of them."""
        config, events = self.config, self.events
        request = Ranode(config.ranode).background_request(self.window)
        assert request is not None
        outside = events.select(~self.window.contains(events.m))
        key = self.run.task_key(
            outside.digest(), "infer-background", asdict(request), config.half_samples, self.seed
        )
        self.progress.start("background density", 1)
        if not self.run.has_task(key):
            splits = np.concatenate([np.ones((1, len(events)), dtype=bool), self.halves])
            started = time.perf_counter()
            density = train_background(request, events, splits, seed=self.seed, threads=self.threads)
            self.run.write_background(
                key, density, {"total_s": time.perf_counter() - started, "n_models": len(splits)}
            )
        density = self.run.read_background(key)[0]
        self.progress.advance("background density")
        self.backgrounds = [self.background(density, k, self.window) for k in range(len(self.halves) + 1)]

    def background(self, density: ConditionalDensity, k: int, window: Window) -> Background:
        """Model k: of all sideband events, or of a half of them, with the mass fit of the same events."""
        spectrum = self.fit.inclusive
        if k:
            rows, weighted = self.halves[k - 1], self.events.weight is not None
            groups = self.events.groups
            family = get_family(self.config.background, self.config.sqrt_s * 1000, self.config.masks)
            spectrum = fit_inclusive(
                self.events.m[rows], self.window, self.fit.edges, family,
                weights=self.events.weights[rows] if weighted else None,
                groups=None if groups is None else groups[rows],
            )  # fmt: skip
        return Background(density, k, spectrum, window)

    def common(self, share: float) -> dict[str, Any]:
        """Expectation of the spectrum fit in a fraction of the folds."""
        b, error = self.expected
        return {
            "expected_background": b * share,
            "expected_background_error": error * share,
            "tested_share": share,
            "fit": self.fit.judged.to_dict(),
        }

    def constraint(self, share: float) -> tuple[float, float] | None:
        """Background and its error in a share of the folds; None if it floats."""
        b, error = self.expected
        return (b * share, error * share) if self.config.normalisation == "constrained" else None

    def stored(self, compute: Callable[[], dict[str, Array]], *what: Any) -> dict[str, Array]:
        """Arrays stored under a key of their inputs; made if they are not there."""
        c = self.config
        key = self.run.task_key(
            self.digests,
            c.combination,
            c.folds,
            c.seed,
            c.half_samples,
            c.draws,
            c.background,
            c.range,
            *what,
        )
        path = self.run.path / "tasks" / f"{key}.npz"
        if not path.exists():
            arrays = compute()
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
        try:
            with np.load(path, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: is damaged ({error}); delete it and repeat the command") from None

    def draw(self, density: Background, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Features and masses from a background, as data are given to the densities."""
        x, m = density.sample(n, rng)
        return self.transform.dequantise(x, rng), m

    def judge(
        self,
        model: SignalModel,
        x: Array,
        m: Array,
        fold: NDArray[np.int64],
        folds: tuple[int, ...],
        background: Background,
    ) -> Array:
        """Ln R of each event by the models of its fold; NaN in a fold without."""
        out = np.full(len(m), np.nan)
        for f in folds:
            rows = fold == f
            out[rows] = log_ratio(model, background, x[rows], m[rows], f)
        return out

    def arrays(
        self, model: SignalModel, x: Array, m: Array, fold: NDArray[np.int64], folds: tuple[int, ...]
    ) -> dict[str, Array]:
        """Ln R of the data, of the same with other backgrounds, of draws from both densities, and of control windows."""
        nominal, *others = self.backgrounds
        found = {
            "log_ratio": self.judge(model, x, m, fold, folds, nominal),
            "halves": np.array([self.judge(model, x, m, fold, folds, b) for b in others]).reshape(
                len(others), len(m)
            ),
        }
        n = -(-self.config.draws // len(folds))
        of_b, of_s, drawn = [], [], []
        for f in folds:
            rng = np.random.default_rng([self.seed, f, 7])
            of_b.append(log_ratio(model, nominal, *self.draw(nominal, n, rng), f))
            signal_x, signal_m = model.sample(n, f, rng)
            of_s.append(log_ratio(model, nominal, self.transform.dequantise(signal_x, rng), signal_m, f))
            keep = -(-DRAWN // len(folds))
            drawn.append((signal_x[:keep], signal_m[:keep]))
        found |= {"draws_background": np.array(of_b), "draws_signal": np.array(of_s)}
        found["signal_x"], found["signal_m"] = (np.concatenate([d[i] for d in drawn]) for i in (0, 1))
        found["background_x"], found["background_m"] = nominal.sample(
            DRAWN, np.random.default_rng([self.seed, 8])
        )
        for side in ("below", "above"):
            found |= self._control(model, folds, side)
        return found

    def _control(self, model: SignalModel, folds: tuple[int, ...], side: str) -> dict[str, Array]:
        """Ln R next to the window, with p_B of the half that an event is not in; nothing if there are too few."""
        width = self.window.width
        shift = -width if side == "below" else width
        nothing = {f"control_{side}": np.empty(0), f"control_{side}_weights": np.empty(0)}
        if not len(self.halves) or self.window.low + shift <= 0:
            return nothing
        control = Window(self.window.low + shift, self.window.high + shift)
        rows = np.flatnonzero(control.contains(self.events.m) & self.fit.in_range(self.events.m))
        low, high = self.fit.edges[0], self.fit.edges[-1]
        if control.low < low or control.high > high or len(rows) < _FEWEST_CONTROL:
            return nothing
        x, m, first = self.x[rows], self.events.m[rows], self.halves[0][rows]
        fold = np.where(np.isin(self.fold[rows], folds), self.fold[rows], folds[-1])
        ratio = np.empty(len(rows))
        # the first half is row 1 of the densities, its complement row 2
        for mine, other in ((first, self.backgrounds[2]), (~first, self.backgrounds[1])):
            at = replace(other, window=control)
            ratio[mine] = self.judge(model, x[mine], m[mine], fold[mine], folds, at)
        return {f"control_{side}": ratio, f"control_{side}_weights": self.events.weights[rows]}

    def pictures(self, arrays: dict[str, Array]) -> list[dict[str, Any]]:
        """Mass and features of the signal and the background, as fractions of the bins."""
        out = []
        for i, name in enumerate((self.events.mass, *self.events.features)):
            s, b = (
                arrays[f"{kind}_m"] if i == 0 else arrays[f"{kind}_x"][:, i - 1]
                for kind in ("signal", "background")
            )
            low, high = (
                (self.window.low, self.window.high)
                if i == 0
                else np.quantile(np.concatenate([s, b]), [0.005, 0.995])
            )
            edges = np.linspace(low, high if high > low else low + 1, 41)
            shapes = {
                k: (np.histogram(a, edges)[0] / len(a)).tolist()
                for k, a in (("signal", s), ("background", b))
            }
            out.append({"name": name, "edges": edges.tolist(), **shapes})
        return out
