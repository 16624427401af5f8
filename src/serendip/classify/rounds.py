"""The samples from which a network draws its batches, and the criterion for its rounds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.classify.argos import enough_template
from serendip.events.groups import held_out

__all__ = ["COSTS", "Rows", "mean_loss", "minus_argos"]


class Rows:
    """The training and validation rows of one network, and the order in which they are drawn."""

    def __init__(
        self,
        split: int,
        seed: int,
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        fraction: float,
        judged: NDArray[np.int64] | None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.split = split
        self.rng = np.random.default_rng(seed)
        counts = np.bincount(targets, minlength=2)
        if groups is None:
            order = self.rng.permutation(len(rows))
            for_validation = np.zeros(len(rows), dtype=bool)
            for number, count in enumerate(counts):
                of_class = order[targets[order] == number]
                for_validation[of_class[: round(count * fraction)]] = True
        else:
            for_validation = held_out(fraction, self.rng, groups, targets)
        if judged is not None:
            self.training, self.validation = rows, judged
        elif counts.min() < 10 or not all(
            len(np.unique(targets[side])) == 2 for side in (for_validation, ~for_validation)
        ):
            self.training, self.validation = rows, rows
        else:
            self.training, self.validation = rows[~for_validation], rows[for_validation]
        self._waiting = np.empty(0, dtype=np.int64)

    def draw(self, count: int) -> NDArray[np.int64]:
        """Return the next ``count`` training rows; every row comes once before any comes again."""
        while len(self._waiting) < count:
            self._waiting = np.concatenate([self._waiting, self.rng.permutation(self.training)])
        drawn, self._waiting = self._waiting[:count], self._waiting[count:]
        return drawn


def mean_loss(logits: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Weighted mean loss of each model from arrays ``(models, n)``, shape ``(models,)``."""
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, weight=w, reduction="none")
    return (losses.double().sum(dim=1) / w.double().sum(dim=1)).float()


def minus_argos(logits: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """-ARGOS of each model from arrays ``(models, n)``, shape ``(models,)``; NaN if a logit is."""
    order = torch.argsort(torch.where(w > 0, logits, -torch.inf), dim=1, descending=True)
    logits, y, w = (values.gather(1, order) for values in (logits, y, w.double()))
    data, template, template2 = ((w * part).cumsum(dim=1) for part in (y, 1 - y, w * (1 - y)))
    eps_d, eps_t = data / data[:, -1:], template / template[:, -1:]
    behind = template**2 / template2
    minimum = torch.as_tensor([enough_template(float(n)) for n in behind[:, -1]], device=w.device)[:, None]
    # a cut keeps all events of one score; those without weight are last, where both efficiencies are 1
    closed = torch.ones_like(logits, dtype=torch.bool)
    closed[:, :-1] = logits[:, 1:] != logits[:, :-1]
    allowed = closed & (behind >= minimum * (1 - 1e-9))
    value = torch.where(allowed, (eps_d - eps_t) / eps_t.sqrt(), -torch.inf).max(dim=1).values
    return torch.where(torch.isfinite(logits).all(dim=1), -value, torch.nan).float()


COSTS = {"loss": mean_loss, "argos": minus_argos}
"""The quantity minimised by ``select_by``."""
