r"""Which features distinguish two samples: derivatives of the classifier, and the loss if a feature is shuffled.

The derivative of the log-ratio of densities :math:`s(x) = \ln p_1(x) - \ln p_0(x)`,

.. math:: D_i = \left\langle \left| \frac{\partial s}{\partial x_i} \right| \right\rangle \sigma_i,

is large where the ratio changes fast along a feature (DREAM: Density Ratio Estimation for Automatic Monitoring). The
importance by permutation is the AUC that is lost when the feature of held-out events is replaced by that of others;
it needs no derivative, but shares credit among correlated features in its own way, so both are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serendip.validate.twosample import FoldedAuc, TwoSample

__all__ = ["Ranking", "input_derivatives", "log_ratio_gradient", "permutation_importance"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Features by importance, most important first.

    Attributes
    ----------
    features
        Their names.
    values, errors
        Importance, and its standard error from the spread of the folds.
    """

    features: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]


def _ranking(per_fold: Array, names: tuple[str, ...]) -> Ranking:
    """Rank by the mean over the folds; ``per_fold`` has shape ``(k, d)``."""
    values = per_fold.mean(axis=0)
    errors = per_fold.std(axis=0, ddof=1) / np.sqrt(len(per_fold))
    order = np.argsort(-values, kind="stable")
    return Ranking(
        tuple(names[i] for i in order),
        tuple(float(values[i]) for i in order),
        tuple(float(errors[i]) for i in order),
    )


def permutation_importance(
    sample: TwoSample, names: tuple[str, ...], repeats: int, rng: np.random.Generator
) -> Ranking:
    """Loss in AUC on held-out events if a feature is redrawn, for any classifier.

    Parameters
    ----------
    sample
        From :func:`~serendip.validate.twosample.cross_validate` with at least two folds.
    names
        The features, ``d`` of them.
    repeats
        Draws for each feature and fold. Values come from other events of the fold with a probability that is
        proportional to their weight, so that the weighted distribution of the feature stays as it is.
    """
    n_folds = int(sample.fold.max()) + 1
    lost = np.zeros((n_folds, len(names)))
    for f in range(n_folds):
        rows = np.flatnonzero(sample.fold == f)
        x, y, w = sample.x[rows], sample.y[rows], sample.weights[rows]
        one = np.zeros(len(rows), dtype=np.int64)
        reference = FoldedAuc(y, sample.score[rows], one)(w)
        for i in range(len(names)):
            for _ in range(repeats):
                changed = x.copy()
                changed[:, i] = x[rng.choice(len(rows), len(rows), p=w / w.sum()), i]
                lost[f, i] += reference - FoldedAuc(y, sample.models.score(changed, f), one)(w)
    return _ranking(lost / repeats, names)


def log_ratio_gradient(network: Any, x: NDArray[np.float32]) -> Array:
    r"""Derivatives of the log-odds of a network by its standardised inputs, :math:`\sigma_i\, \partial s/\partial x_i`.

    Parameters
    ----------
    network
        A fitted :class:`~serendip.classify.networks.NetworkEnsemble`; its log-odds are those of the mean probability.
    x
        Features, shape ``(n, d)``.

    Returns
    -------
    Shape ``(n, d)``; :math:`\sigma_i` is the standard deviation in the training sample.
    """
    scaled = torch.as_tensor((x.astype(np.float64) - network.mean_) / network.deviation_)
    layers = [(weight.cpu().double(), bias.cpu().double()) for weight, bias in network.layers_]
    gradients = []
    for block in torch.split(scaled, 4096):
        inputs = block.clone().requires_grad_()
        hidden = inputs.expand(len(layers[0][0]), -1, -1)
        for i, (weight, bias) in enumerate(layers):
            hidden = torch.baddbmm(bias, hidden, weight)
            if i < len(layers) - 1:
                hidden = hidden.relu()
        logits = hidden[..., 0]
        log_odds = torch.logsumexp(torch.nn.functional.logsigmoid(logits), dim=0) - torch.logsumexp(
            torch.nn.functional.logsigmoid(-logits), dim=0
        )
        (gradient,) = torch.autograd.grad(log_odds.sum(), inputs)
        gradients.append(gradient.numpy())
    return np.concatenate(gradients)


def input_derivatives(sample: TwoSample, names: tuple[str, ...]) -> Ranking:
    """Mean size of the derivative of the log-ratio by each feature, in units of the feature's standard deviation.

    Parameters
    ----------
    sample
        Classified by networks, at least two folds; each event is differentiated by the network that was not trained on it.
    names
        The features, ``d`` of them.
    """
    n_folds = int(sample.fold.max()) + 1
    size = np.empty((n_folds, len(names)))
    for f in range(n_folds):
        rows = sample.fold == f
        gradient = log_ratio_gradient(sample.models.estimators[f], sample.x[rows])
        size[f] = np.average(np.abs(gradient), axis=0, weights=sample.weights[rows])
    return _ranking(size, names)
