r"""Networks that treat an event as a set of objects: the order of the objects and empty places in the list do not count.

DeepSets (arXiv:1703.06114; for collisions arXiv:1810.05165):

.. math:: s = \rho\Big(\frac{1}{\bar n} \sum_i \phi(x_i)\Big)

with the mean number :math:`\bar n` of objects in the training events, so that the number of objects of an event enters. Transformer: after
Particle Transformer (arXiv:2202.03772), with the pairs of objects as a bias of the attention in all layers,

.. math:: \mathrm{softmax}\big(Q K^T / \sqrt{d} + U\big)\, V, \qquad
    U_{ij} = u\big(\ln k_T,\ \ln \Delta R,\ \ln m^2\big)_{ij},

.. math:: k_T = \min(p_{T,i}, p_{T,j})\, \Delta R, \qquad \Delta R^2 = \Delta\eta^2 + \Delta\phi^2 .

The output is read from an additional object that attends to all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from serendip.errors import InputError

__all__ = [
    "DeepSets",
    "Dense",
    "SetNetwork",
    "Transformer",
    "build_network",
    "compact",
    "log_odds",
    "pair_features",
]

Kind = Literal["deepsets", "transformer", "dense"]

_REACH = 10.0
_KINEMATICS = ("log_energy", "log_pt", "eta", "sin_phi", "cos_phi")
_FLAG, _MET = "is_", "is_met"
_MIN_ANGLE = 1e-3
_PIECE = 128
_MIN_SQUARED_MASS = 1.0


class SetNetwork(nn.Module):
    """Common base of the networks: mask of existing objects, and standardised features.

    Parameters
    ----------
    features
        Names of the features of an object. Those that begin with ``is_`` are 1 for its kind and 0 otherwise, and all 0 where there is no
        object.

    Attributes
    ----------
    centre, scale
        The other features enter as ``(x - centre) * scale``, shape ``(n_features,)``.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: Sequence[str], *, sets: bool = True) -> None:
        super().__init__()
        self.features = tuple(features)
        self.flags = [i for i, name in enumerate(features) if name.startswith(_FLAG)] if sets else []
        if sets and not self.flags:
            raise InputError(
                "no feature of the objects begins with 'is_', so that empty slots cannot be identified: use the names "
                "of encode_objects"
            )
        self.register_buffer("centre", torch.zeros(len(features)))
        self.register_buffer("scale", torch.ones(len(features)))

    def present(self, x: Tensor) -> Tensor:
        """Where there is an object, shape ``(n, n_objects)``."""
        return (x[..., self.flags] != 0).any(-1)

    def standardised(self, x: Tensor) -> Tensor:
        """Input features of the layers, in shape like ``x``."""
        return ((x - self.centre) * self.scale).clamp(-_REACH, _REACH)

    def learn_scales(self, x: Tensor, present: Tensor, weight: Tensor) -> None:
        """Set further scales of the network; ``x`` are training events with weights that sum to one."""


class Dense(SetNetwork):
    """A fully connected network of ``layers`` hidden layers on events that are one row of features: lists of one object."""

    def __init__(self, features: Sequence[str], *, width: int, layers: int) -> None:
        super().__init__(features, sets=False)
        self.event = _perceptron(len(features), *[width] * layers, 1)

    def present(self, x: Tensor) -> Tensor:
        """Every row is valid, shape ``(n, 1)``."""
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds, shape ``(n,)``, of events of shape ``(n, 1, n_features)``."""
        out: Tensor = self.event(self.standardised(x[:, 0]))
        return out[:, 0]


class DeepSets(SetNetwork):
    """A sum over objects between two networks of ``layers`` hidden layers each."""

    occupancy: Tensor

    def __init__(self, features: Sequence[str], *, width: int, layers: int) -> None:
        super().__init__(features)
        self.register_buffer("occupancy", torch.ones(()))
        self.each = _perceptron(len(features), *[width] * (layers + 1))
        self.event = _perceptron(width, *[width] * layers, 1)

    def learn_scales(self, x: Tensor, present: Tensor, weight: Tensor) -> None:
        """Take over the mean number of objects."""
        self.occupancy.copy_((present.sum(1) * weight).sum().clamp_min(1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds, shape ``(n,)``, of events of shape ``(n, n_objects, n_features)``."""
        present = self.present(x)
        objects = self.each(self.standardised(x)).masked_fill(~present[..., None], 0.0)
        out: Tensor = self.event(objects.sum(1) / self.occupancy)
        return out[:, 0]


class Transformer(SetNetwork):
    """Attention among objects with a bias from each pair."""

    pair_centre: Tensor
    pair_scale: Tensor

    def __init__(self, features: Sequence[str], *, width: int, layers: int, heads: int) -> None:
        super().__init__(features)
        missing = [name for name in _KINEMATICS if name not in features]
        if missing:
            raise InputError(
                f"the transformer needs the momenta of the objects; features are missing: {', '.join(missing)} (use the "
                "names of encode_objects)"
            )
        self.register_buffer("pair_centre", torch.zeros(3))
        self.register_buffer("pair_scale", torch.ones(3))
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.embed = _perceptron(len(features), width, width)
        self.pairs = _perceptron(3, width // 2, heads)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def learn_scales(self, x: Tensor, present: Tensor, weight: Tensor) -> None:
        """Take over mean and spread of the pair features."""
        sums = torch.zeros(3, 3, dtype=torch.float64)
        for rows in torch.split(torch.arange(len(x)), 1024):
            pairs, there = pair_features(x[rows].double(), present[rows], self.features)
            w = (there * weight[rows, None, None])[..., None]
            sums += torch.stack([(w * pairs**power).sum((0, 1, 2)) for power in (0, 1, 2)])
        if bool(sums[0, 0] > 0):
            mean = sums[1] / sums[0]
            self.pair_centre.copy_(mean)
            self.pair_scale.copy_((sums[2] / sums[0] - mean**2).clamp_min(1e-6).rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds, shape ``(n,)``, of events of shape ``(n, n_objects, n_features)``."""
        present = self.present(x)
        pairs, there = pair_features(x, present, self.features)
        pairs = ((pairs - self.pair_centre) * self.pair_scale).clamp(-_REACH, _REACH)
        bias = self.pairs(pairs).masked_fill(~there[..., None], 0.0).permute(0, 3, 1, 2)
        # the additional object stands first
        bias = functional.pad(bias, (1, 0, 1, 0))
        seen = functional.pad(present, (1, 0), value=True)
        bias = bias.masked_fill(~seen[:, None, None, :], -torch.inf)
        objects = torch.cat([self.token.expand(len(x), 1, -1), self.embed(self.standardised(x))], 1)
        for block in self.blocks:
            objects = block(objects, bias)
        out: Tensor = self.head(objects[:, 0])
        return out[:, 0]


class _Block(nn.Module):
    """Attention and a network for each object, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.after = nn.Sequential(nn.LayerNorm(width), *_perceptron(width, 2 * width, width))

    def forward(self, objects: Tensor, bias: Tensor) -> Tensor:
        n, slots, width = objects.shape
        parts = (
            self.project(self.before(objects))
            .view(n, slots, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        found = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=bias)
        objects = objects + self.merge(found.transpose(1, 2).reshape(n, slots, width))
        out: Tensor = objects + self.after(objects)
        return out


def build_network(
    kind: Kind, features: Sequence[str], *, width: int, layers: int, heads: int, seed: int
) -> SetNetwork:
    """Make a network with fresh weights.

    Raises
    ------
    InputError
        If the names of the features are insufficient.
    """
    # the layers draw from torch's global state: borrow it and give it back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "dense":
            return Dense(features, width=width, layers=layers)
        if kind == "deepsets":
            return DeepSets(features, width=width, layers=layers)
        return Transformer(features, width=width, layers=layers, heads=heads)


def compact(x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Move the objects to the beginning of the list.

    Returns
    -------
    x, count
        In shape like ``x``, and the number of objects of each event, shape ``(n,)``.
    """
    count = present.sum(1)
    if bool((present[:, 1:] & ~present[:, :-1]).any()):
        order = torch.argsort(present.to(torch.uint8), dim=1, descending=True, stable=True)
        x = x.gather(1, order[..., None].expand_as(x))
    return x, count


def log_odds(network: SetNetwork, x: Tensor, count: Tensor, device: torch.device) -> Tensor:
    """Answer of the network for events from :func:`compact`, shape ``(n,)``, on the device of the network.

    Events with about as many objects are taken together, each piece cut to its longest list: the result is the same, and time is not
    spent on empty places.
    """
    order = torch.argsort(count, stable=True)
    alike = bool(count[order[0]] == count[order[-1]])
    parts = torch.tensor_split(order, 1 if alike else max(1, len(x) // _PIECE))
    found = [network(x[part, : int(count[part].max())].to(device)) for part in parts]
    return torch.cat(found)[torch.argsort(order).to(device)]


def pair_features(x: Tensor, present: Tensor, features: Sequence[str]) -> tuple[Tensor, Tensor]:
    r"""Give :math:`\ln k_T`, :math:`\ln \Delta R` and :math:`\ln m^2` (GeV) of each pair of objects.

    .. math:: m_{ij}^2 = m_i^2 + m_j^2 + 2\,(E_i E_j - |p_i||p_j|) + 2\, p_{T,i}\, p_{T,j}\, (\cosh\Delta\eta - \cos\Delta\phi)

    MET has no :math:`\eta`: pairs with it are taken in the transverse plane, where the mass is the transverse mass. :math:`\Delta R` is at
    least 0.001 and :math:`m^2` at least 1 GeV², below which the rounding of the energies counts.

    Parameters
    ----------
    x
        Objects, shape ``(n, n_objects, n_features)``.
    present
        Where there is an object, shape ``(n, n_objects)``.
    features
        Names of the last axis, as in :func:`~serendip.theories.encoding.encode_objects`.

    Returns
    -------
    pairs, there
        Shape ``(n, n_objects, n_objects, 3)``, and True for pairs of two different objects, shape ``(n, n_objects, n_objects)``.
    """
    at = {name: i for i, name in enumerate(features)}
    log_energy, log_pt, eta, sin, cos = (x[..., at[name]] for name in _KINEMATICS)
    met = x[..., at[_MET]] != 0 if _MET in at else torch.zeros_like(present)
    # an empty place has no direction: the angle between two of them would have no derivative
    cos = torch.where(present, cos, torch.ones_like(cos))
    energy, pt = log_energy.exp(), log_pt.exp()
    squared = (energy**2 - (pt * eta.cosh()) ** 2).clamp_min(0.0)
    across = met[:, :, None] | met[:, None, :]

    def both(values: Tensor) -> Tensor:
        return values[:, :, None] * values[:, None, :]

    d_eta = (eta[:, :, None] - eta[:, None, :]).masked_fill(across, 0.0)
    cos_phi = (both(cos) + both(sin)).clamp(-1.0, 1.0)
    sin_phi = sin[:, :, None] * cos[:, None, :] - cos[:, :, None] * sin[:, None, :]
    d_phi = torch.atan2(sin_phi, cos_phi)
    angle = (d_eta**2 + d_phi**2).clamp_min(_MIN_ANGLE**2).sqrt()
    softer = torch.minimum(pt[:, :, None], pt[:, None, :])
    transverse = (squared + pt**2).sqrt()
    massive = torch.where(
        across, both(transverse) - both(pt), (both(energy) - both(pt * eta.cosh())).clamp_min(0.0)
    )
    # cosh x - cos y without the cancellation at small angles
    opening = 2.0 * ((0.5 * d_eta).sinh() ** 2 + (0.5 * d_phi).sin() ** 2)
    m2 = squared[:, :, None] + squared[:, None, :] + 2.0 * (massive + both(pt) * opening)
    pairs = torch.stack([(softer * angle).log(), angle.log(), m2.clamp_min(_MIN_SQUARED_MASS).log()], -1)
    other = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return pairs, present[:, :, None] & present[:, None, :] & other


def _perceptron(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])
