"""Fisher scoring of many independent likelihood fits at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Objective", "fisher_scoring"]

Array = NDArray[np.float64]
Rows = NDArray[np.int_]

_MAX_STEPS = 200
_MAX_HALVINGS = 30


class Objective(Protocol):
    """Half of minus two log likelihood of many data sets, up to a constant factor of two that both methods share."""

    def value(self, params: Array, rows: Rows) -> Array:
        """Objective of the data sets ``rows`` at parameters of shape ``(len(rows), p)``."""

    def slope(self, params: Array, rows: Rows) -> tuple[Array, Array]:
        """Half the gradient, ``(len(rows), p)``, and half the expected Hessian, ``(len(rows), p, p)``."""


def fisher_scoring(
    objective: Objective,
    start: Array,
    slack: Array,
    *,
    longest_step: float | Array = 5.0,
    tolerance: float = 1e-9,
    max_steps: int = _MAX_STEPS,
) -> tuple[Array, Array]:
    """Minimise every data set's objective.

    Parameters
    ----------
    objective
        Values, gradients and information.
    start
        Start parameters, shape ``(n, p)``.
    slack
        Rounding error of each objective, shape ``(n,)``: a step that raises it by less is accepted.
    longest_step
        Limit of a step for each parameter: far from the minimum the quadratic model promises too much.
    tolerance
        A data set is finished where half its objective can improve by less.
    max_steps
        Largest number of steps.

    Returns
    -------
    params
        Shape ``(n, p)``.
    decrement
        Expected further improvement of half the objective, shape ``(n,)``: large where no minimum was found.
    """
    params = start.copy()
    decrement = np.zeros(len(params))
    active = np.arange(len(params))
    for _ in range(max_steps):
        if not len(active):
            break
        gradient, information = objective.slope(params[active], active)
        step = np.asarray(-np.linalg.solve(information, gradient[..., None])[..., 0], dtype=np.float64)
        decrement[active] = -np.einsum("tp,tp->t", step, gradient)
        going = decrement[active] > tolerance
        active, step = active[going], step[going]
        if not len(active):
            break
        shrink = np.maximum(np.abs(step / longest_step).max(axis=1), 1.0)
        step = step / shrink[:, None]
        moved = _halve_until_better(objective, params[active], step, active, slack[active])
        stuck = np.all(moved == params[active], axis=1)
        params[active] = moved
        active = active[~stuck]
    return params, decrement


def _halve_until_better(objective: Objective, params: Array, step: Array, rows: Rows, slack: Array) -> Array:
    """``params + step / 2^k`` with the smallest ``k`` that does not raise the objective."""
    out = params.copy()
    before = objective.value(params, rows)
    todo = np.arange(len(rows))
    for _ in range(_MAX_HALVINGS):
        trial = params[todo] + step[todo]
        good = objective.value(trial, rows[todo]) <= before[todo] + slack[todo]
        out[todo[good]] = trial[good]
        todo = todo[~good]
        if not len(todo):
            break
        step[todo] *= 0.5
    return out
