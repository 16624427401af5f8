r"""Densities as ONNX graphs: features and mass in, latent position and log-density out, all in float64.

The graph holds the whole chain: the feature transform (:mod:`serendip.density.transforms`), then the velocity field of
flow matching in every midpoint step with its exact divergence, or the layers of a normalizing flow.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.density.base import ConditionalDensity, TransformedDensity
from serendip.density.logit import EDGE, LogitTransform, StandardTransform
from serendip.density.preprocessing import Preprocessing
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.onnx_graph import Graph, Value

__all__ = ["export_density"]

Array = NDArray[np.float64]

_FLOWS = ("maf", "spline", "spline-coupling")
_REACH = 6.0
_SPLINE_BOUND = 5.0
_SLOPE = math.log(1e-3)


def export_density(
    path: Path,
    density: ConditionalDensity,
    split: int = 0,
    facts: dict[str, str] | None = None,
    *,
    log_prob: bool = True,
) -> None:
    """Write model ``split`` of a fitted density.

    Inputs ``features``, float32 ``(n, d)``, and ``mass`` in GeV, float64 ``(n,)``; outputs ``latent``, float64
    ``(n, d)`` (not for an ensemble, which has no latent space), and ``log_prob``, float64 ``(n,)``, in the units of the features. Without ``log_prob`` the latent
    position alone, which with flow matching takes about a third of the time.

    Raises
    ------
    InputError
        If ``onnx`` is not installed, or the density is of a kind without a graph.
    """
    if not isinstance(density, TransformedDensity):
        raise InputError(f"a density of type {type(density).__name__} cannot be exported to ONNX")
    if density.kind not in ("flow-matching", *_FLOWS):
        raise InputError(f"a density of kind '{density.kind}' cannot be exported to ONNX")
    members = density.members_of(split)
    if len(members) > 1 and not log_prob:
        raise InputError(f"the mean of {len(members)} densities has no latent space to export")
    graph = Graph("density")
    transform = density.transforms[split]
    d = transform.n_features
    x = graph.input("features", np.float32, ["n", d]).cast(np.float64)
    mass = graph.input("mass", np.float64, ["n"])
    u = _context(transform, mass.expand(1))
    z, log_jacobian = _forward(graph, transform, x, u)
    log_p = []
    log_volume: Value | None
    for model in members:
        if density.kind in _FLOWS:
            latent, log_volume = _flow(graph, density, model, z, u)
        else:
            latent, log_volume = _flow_matching(graph, density, model, z, u, log_prob)
        if len(members) == 1:
            graph.output("latent", latent, np.float64, ["n", d])
        if log_volume is not None:
            normal = (latent * latent).sum(1) * -0.5 - 0.5 * d * math.log(2 * math.pi)
            log_p.append((normal + log_volume).expand(1))
    if log_prob:
        total = log_p[0] if len(log_p) == 1 else graph.concatenate(log_p, axis=1)
        mean = graph.call("ReduceLogSumExp", total, axes=[1], keepdims=0) - math.log(len(members))
        graph.output("log_prob", mean + log_jacobian, np.float64, ["n"])
    graph.write(path, facts or {})


def _context(transform: Preprocessing, mass: Value) -> Value:
    """Standardised ln(m - m_0), shape ``(n, 1)``."""
    below, centre, scale, low, high = (float(number) for number in transform.mass)
    shifted = mass.graph.call("Max", mass - below, mass.graph.constant(1e-300))
    return ((shifted.apply("Log") - centre) / scale).clip(low, high)


def _forward(graph: Graph, transform: Preprocessing, x: Value, u: Value) -> tuple[Value, Value]:
    """Nearly normal features, shape ``(n, d)``, and the log of their Jacobian, shape ``(n,)``."""
    if isinstance(transform, FeatureTransform):
        z, derivative = _fixed_spline(graph, x, transform.x_knots, transform.z_knots, transform.slopes)
    elif isinstance(transform, LogitTransform):
        z, derivative = _logit(graph, x, transform.low, transform.high)
    elif isinstance(transform, StandardTransform):
        z, derivative = x, x * 0.0 + 1.0
    else:
        raise InputError(f"a preprocessing of type {type(transform).__name__} cannot be exported to ONNX")
    # (n, 1) powers times (d, terms) coefficients
    mean = _polynomial(graph, u, transform.mean)
    log_scale = _polynomial(graph, u, transform.log_scale)
    log_jacobian = derivative.apply("Log").sum(1) - log_scale.sum(1)
    return (z - mean) * (-log_scale).apply("Exp"), log_jacobian


def _polynomial(graph: Graph, u: Value, coefficients: Array) -> Value:
    powers = [graph.call("Pow", u, graph.constant(float(k))) for k in range(coefficients.shape[1])]
    return graph.concatenate(powers) @ np.ascontiguousarray(coefficients.T)


def _fixed_spline(graph: Graph, x: Value, xk: Array, zk: Array, dk: Array) -> tuple[Value, Value]:
    """The spline of each feature through fixed knots, straight on beyond them; and its derivative."""
    # knots below x, as in a search from the right; the outermost bins include the values beyond
    inner = xk[:, 1:-1]
    index = (x.expand(2) >= inner[None]).cast(np.int64).sum(2)
    rows = np.arange(len(xk))[:, None]

    def pick(table: Array) -> Value:
        # features one after the other in one flat table
        offset = graph.constant((rows * table.shape[1]).T, np.int64)
        return graph.call("Gather", graph.constant(table.ravel()), graph.call("Add", index, offset))

    x0, width = pick(xk[:, :-1]), pick(np.diff(xk, axis=1))
    z0, height = pick(zk[:, :-1]), pick(np.diff(zk, axis=1))
    d0, d1 = pick(dk[:, :-1]), pick(dk[:, 1:])
    share = ((x - x0) / width).clip(0.0, 1.0)
    z, derivative = _rational_quadratic(share, z0, height, height / width, d0, d1)
    inside = graph.call("Min", graph.call("Max", x, graph.constant(xk[:, 0])), graph.constant(xk[:, -1]))
    return z + derivative * (x - inside), derivative


def _logit(graph: Graph, x: Value, low: Array, high: Array) -> tuple[Value, Value]:
    """Logit of the place in the training range, straight on beyond it; and its derivative."""
    r = (x - low) / (high - low)
    inside = r.clip(EDGE, 1 - EDGE)
    slope = graph.constant(1.0) / (inside * (1.0 - inside))
    return (inside / (1.0 - inside)).apply("Log") + slope * (r - inside), slope / (high - low)


def _rational_quadratic(
    xi: Value, z0: Value, height: Value, s: Value, d0: Value, d1: Value
) -> tuple[Value, Value]:
    """Value and derivative at the place ``xi`` in [0, 1] of a bin (arXiv:1906.04032)."""
    rest = 1.0 - xi
    mix = xi * rest
    bottom = s + (d0 + d1 - s * 2.0) * mix
    z = z0 + height * (s * xi * xi + d0 * mix) / bottom
    top = s * s * (d1 * xi * xi + s * mix * 2.0 + d0 * rest * rest)
    return z, top / (bottom * bottom)


def _flow_matching(
    graph: Graph, density: Any, model: int, z: Value, u: Value, with_divergence: bool
) -> tuple[Value, Value | None]:
    """The place at time 0 and minus the integral of the divergence, with the midpoint rule."""
    pairs = zip(density.network.weights, density.network.biases, strict=True)
    layers = [tuple(parameter[model].detach().double().cpu().numpy() for parameter in pair) for pair in pairs]
    frequencies, ends = density.options["frequencies"], density.bridge_of(model // density.ensemble)

    def field(at: Value, t: float, with_divergence: bool) -> tuple[Value, Value | None]:
        if ends is None:
            return _velocity(graph, layers, frequencies, at, t, u, with_divergence)
        low, high = (graph.constant(end) for end in ends)
        between = (u > low) & (u < high)
        v, div = _velocity(graph, layers, frequencies, at, t, graph.where(between, low, u), with_divergence)
        v_high, div_high = _velocity(
            graph, layers, frequencies, at, t, graph.where(between, high, u), with_divergence
        )
        share = ((u - low) / (ends[1] - ends[0])).clip(0.0, 1.0)
        v = v + (v_high - v) * share
        if div is not None and div_high is not None:
            div = div + (div_high - div) * share.squeeze(1)
        return v, div

    step = -1.0 / density.ode_steps
    at, integral = z, None
    for i in range(density.ode_steps):
        t = 1.0 + i * step
        half, _ = field(at, t, False)
        v, div = field(at + half * (0.5 * step), t + 0.5 * step, with_divergence)
        at = at + v * step
        integral = div if integral is None or div is None else integral + div
    return at, None if integral is None else integral * step


def _velocity(
    graph: Graph,
    layers: list[Any],
    frequencies: int,
    z: Value,
    t: float,
    u: Value,
    with_divergence: bool,
) -> tuple[Value, Value | None]:
    """Velocity ``(n, d)`` at time ``t`` and its divergence ``(n,)``."""
    variance = t**2 + (1 - t) ** 2
    sigma, drift = math.sqrt(variance), (2 * t - 1) / variance
    scaled = z / sigma
    waves = [(u * float(2**k)).apply(wave) for k in range(frequencies) for wave in ("Sin", "Cos")]
    angle = math.pi * t
    time = [t, math.sin(angle), math.cos(angle), math.sin(2 * angle), math.cos(2 * angle)]
    weight, bias = layers[0]
    n_time = len(time)
    # the time is a number here: its part of the first layer is a bias
    first = bias + np.array(time) @ weight[-n_time:]
    h = graph.concatenate([scaled.clip(-_REACH, _REACH), u, *waves]) @ weight[:-n_time] + first
    d = layers[-1][0].shape[1]
    tangent: Value | None = None
    if with_divergence:
        inside = (scaled.apply("Abs") < _REACH).cast(np.float64)
        # tangent[j] = d h / d input_j, shape (d, n, width)
        tangent = graph.call("Transpose", inside, perm=[1, 0]).expand(2) * weight[:d, None, :]
    for i, (weight, bias) in enumerate(layers[1:]):
        s = h.apply("Sigmoid")
        if tangent is not None:
            tangent = tangent * (s * (h * (1.0 - s) + 1.0))
        h = h * s
        h = h @ weight + bias
        if tangent is not None and i < len(layers) - 2:
            tangent = tangent @ weight
    v = z * drift + h / sigma
    if tangent is None:
        return v, None
    # sum over j and width of tangent[j] times the weights into output j
    trace = (tangent * np.ascontiguousarray(layers[-1][0].T)[:, None, :]).sum(2).sum(0)
    return v, trace / variance + d * drift


def _flow(graph: Graph, density: Any, model: int, z: Value, u: Value) -> tuple[Value, Value]:
    """The noise of a normalizing flow and the log of its Jacobian, layer by layer."""
    network = density.network
    numbers = {
        name: parameter[model].detach().double().cpu().numpy()
        for name, parameter in zip(network.parameter_names, network.stacked, strict=True)
    }
    masks = {
        name: getattr(network, f"constant{i}")[model].cpu().numpy()
        for i, name in enumerate(network.buffer_names)
    }
    condition = graph.concatenate([u, u.apply("Sin"), u.apply("Cos")])
    d = density.transforms[0].n_features
    if d == 1:
        raise InputError("a normalizing flow of one feature cannot be exported to ONNX; use flow-matching")
    total: Value | None = None
    for layer in range(density.options["transforms"]):
        prefix = f"flow.transform.transforms.{layer}.hyper."
        h = graph.concatenate([z, condition])
        for i in range(density.options["layers"] + 1):
            name = f"{prefix}{2 * i}"
            h = h if i == 0 else h.apply("Relu")
            weight = numbers[f"{name}.weight"] * masks[f"{name}.mask"]
            h = h @ np.ascontiguousarray(weight.T) + numbers[f"{name}.bias"]
        parameters = h.reshape(0, d, -1)
        z, log_slope = (
            _affine(z, parameters) if density.kind == "maf" else _spline(graph, z, parameters, density)
        )
        total = log_slope if total is None else total + log_slope
    assert total is not None
    return z, total


def _squashed(value: Value, factor: float = 1.0) -> Value:
    """``a / (1 + |factor a / ln 1e-3|)``, which keeps slopes above 1e-3."""
    return value / ((value * (factor / _SLOPE)).apply("Abs") + 1.0)


def _affine(z: Value, parameters: Value) -> tuple[Value, Value]:
    shift, scale = (parameters.part(i, i + 1).squeeze(2) for i in (0, 1))
    log_scale = _squashed(scale)
    return z * log_scale.apply("Exp") + shift, log_scale.sum(1)


def _spline(graph: Graph, z: Value, parameters: Value, density: Any) -> tuple[Value, Value]:
    """Rational-quadratic spline on [-5, 5], the identity outside."""
    bins = density.options["bins"]

    def knots(low: int) -> tuple[Value, Value]:
        sizes = graph.call("Softmax", _squashed(parameters.part(low, low + bins), 2.0), axis=-1)
        ends = graph.call("CumSum", sizes, graph.constant(2, np.int64))
        return (ends - sizes) * (2 * _SPLINE_BOUND) - _SPLINE_BOUND, sizes * (2 * _SPLINE_BOUND)

    x0, width = knots(0)
    y0, height = knots(bins)
    slopes = _squashed(parameters.part(2 * bins, 3 * bins - 1)).apply("Exp")
    edge = x0.part(0, 1) * 0.0 + 1.0
    slopes = graph.concatenate([edge, slopes, edge])
    place = z.expand(2)
    chosen = graph.call("Sub", (place > x0).cast(np.int64).sum(2), graph.constant(1, np.int64))
    chosen = graph.call("Clip", chosen, graph.constant(0, np.int64), graph.constant(bins - 1, np.int64))
    index = chosen.expand(2)

    def pick(table: Value, add: int = 0) -> Value:
        at = index if add == 0 else graph.call("Add", index, graph.constant(add, np.int64))
        return graph.call("GatherElements", table, at, axis=2).squeeze(2)

    inside = (z > -_SPLINE_BOUND) & graph.call("LessOrEqual", z, graph.constant(_SPLINE_BOUND))
    x0, width, y0, height = pick(x0), pick(width), pick(y0), pick(height)
    d0, d1 = pick(slopes), pick(slopes, 1)
    share = ((z - x0) / width).clip(0.0, 1.0)
    moved, derivative = _rational_quadratic(share, y0, height, height / width, d0, d1)
    log_slope = derivative.apply("Log") * inside.cast(np.float64)
    return graph.where(inside, moved, z), log_slope.sum(1)
