r"""Groups of columns that describe particles: ``mass(Muon, 0, 1)``, ``deltaR(Muon[:,0], Jet)``, ``nJet``.

``Muon`` stands for the columns ``Muon_pt``, ``Muon_eta``, ``Muon_phi`` and ``Muon_mass``, as in CMS NanoAOD, or for columns joined
with a dot (``Jet.PT``, ``p4.fCoordinates.fPt``), or for Cartesian components. With the transverse momentum
:math:`p_T`, the pseudorapidity :math:`\eta`, the azimuth :math:`\phi` and the mass :math:`m`

.. math:: p_x = p_T \cos\phi, \quad p_y = p_T \sin\phi, \quad p_z = p_T \sinh\eta, \quad E^2 = m |m| + |\vec p|^2

and an invariant mass is :math:`\sqrt{(\sum E)^2 - |\sum \vec p|^2}`, 0 where rounding makes the square negative.
A distance is :math:`\Delta R^2 = \Delta\eta^2 + \Delta\phi^2` with :math:`\Delta\phi` in :math:`(-\pi, \pi]`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.events.expressions.lists import lifted, nth, pick
from serendip.events.jagged import Jagged

__all__ = ["KINEMATICS", "Particles", "group_columns", "in_group", "kinematic"]

_NAMES = {
    "pt": ("pt", "PT", "Pt", "fPt"),
    "eta": ("eta", "Eta", "fEta"),
    "phi": ("phi", "Phi", "fPhi"),
    "mass": ("mass", "Mass", "m", "M", "fM"),
    "energy": ("energy", "Energy", "e", "E", "fE", "fT"),
    "px": ("px", "Px", "fX"),
    "py": ("py", "Py", "fY"),
    "pz": ("pz", "Pz", "fZ"),
}
_JOINTS = ("_", ".", ".fCoordinates.", ".fP.", "_fCoordinates_", "_fP_")
_FOUR = (("pt", "eta", "phi", "mass"), ("pt", "eta", "phi", "energy"), ("px", "py", "pz", "energy"), ("px", "py", "pz", "mass"))  # fmt: skip
# the components that each function needs of a particle, the first available ones of a group; and the order of explicit columns
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "mass": _FOUR,
    "pt": (("pt", "phi"), ("px", "py")),
    "deltaR": (("eta", "phi"), ("px", "py", "pz")),
    "deltaPhi": (("phi",), ("px", "py")),
    "deltaEta": (("eta",), ("px", "py", "pz")),
}
KINEMATICS = tuple(_NEEDED)


@dataclass(frozen=True)
class Particles:
    """One particle in each event, or a list of them: its name, and its components by the names of ``_NAMES``."""

    name: str
    parts: dict[str, Any]

    def each(self, function: Callable[[Any], Any]) -> Particles:
        """Apply a function to each component."""
        return Particles(self.name, {key: function(values) for key, values in self.parts.items()})

    def nth(self, position: int) -> Particles:
        """Object ``position`` of each event."""
        if not all(isinstance(values, Jagged) for values in self.parts.values()):
            raise InputError(f"'{self.name}' is one object in each event; leave the number {position} out")
        return self.each(lambda values: nth(values, position))

    def pick(self, chosen: Any) -> Particles:
        """Keep the objects that pass a condition, or a slice of them."""
        return self.each(lambda values: pick(values, chosen))


def in_group(group: str, available: Collection[str]) -> list[str]:
    """Columns of a group: those that begin with its name and a joint."""
    return sorted(name for name in available if name.startswith((f"{group}_", f"{group}.")))


def group_columns(function: str, group: str, available: Collection[str] | None) -> dict[str, str]:
    """Components that ``function`` needs of ``group``, and their columns.

    Raises
    ------
    InputError
        If the group lacks one.
    """
    systems = _NEEDED[function]
    if available is None:
        return {part: f"{group}_{part}" for part in systems[0]}

    def column(part: str) -> str | None:
        names = (f"{group}{joint}{name}" for joint in _JOINTS for name in _NAMES[part])
        return next((name for name in names if name in available), None)

    for system in systems:
        found = {part: column(part) for part in system}
        if all(found.values()):
            return {part: str(name) for part, name in found.items()}
    lacking = [part for part in systems[0] if column(part) is None]
    example = ", ".join(
        f"{group}_{part}[:,{i}]" if f"{group}_{part}" in available else part
        for i in (0, 1)
        for part in systems[0]
    )
    raise InputError(
        f"{function}({group}, ...) needs {', '.join(f'{group}_{part}' for part in systems[0])}, but there is no "
        f"{' and no '.join(f'{group}_{part}' for part in lacking)}; give the values: {function}({example})"
    )


def _cartesian(parts: dict[str, Any]) -> tuple[Any, Any]:
    if "px" in parts:
        return parts["px"], parts["py"]
    return parts["pt"] * np.cos(parts["phi"]), parts["pt"] * np.sin(parts["phi"])


def _direction(parts: dict[str, Any]) -> dict[str, Any]:
    """Pseudorapidity and azimuth, as far as the components determine them."""
    out: dict[str, Any] = {key: parts[key] for key in ("eta", "phi") if key in parts}
    if "px" in parts:
        out.setdefault("phi", np.arctan2(parts["py"], parts["px"]))
        if "pz" in parts:
            out.setdefault("eta", np.arcsinh(parts["pz"] / np.hypot(parts["px"], parts["py"])))
    return out


def _mass(*particles: dict[str, Any]) -> Any:
    total: list[Any] = [0.0, 0.0, 0.0, 0.0]
    for parts in particles:
        px, py = _cartesian(parts)
        pz = parts["pz"] if "pz" in parts else parts["pt"] * np.sinh(parts["eta"])
        if "energy" in parts:
            energy = parts["energy"]
        else:
            m = parts["mass"]
            energy = np.sqrt(np.maximum(m * np.abs(m) + px**2 + py**2 + pz**2, 0.0))
        total = [a + b for a, b in zip(total, (energy, px, py, pz), strict=True)]
    energy, px, py, pz = total
    return np.sqrt(np.maximum((energy - pz) * (energy + pz) - px**2 - py**2, 0.0))


def _pt(*particles: dict[str, Any]) -> Any:
    vectors = [_cartesian(parts) for parts in particles]
    return np.hypot(sum(px for px, _ in vectors), sum(py for _, py in vectors))


def _delta_eta(a: dict[str, Any], b: dict[str, Any]) -> Any:
    return _direction(a)["eta"] - _direction(b)["eta"]


def _delta_phi(a: dict[str, Any], b: dict[str, Any]) -> Any:
    difference = _direction(a)["phi"] - _direction(b)["phi"]
    return -(np.remainder(-difference + np.pi, 2 * np.pi) - np.pi)


def _delta_r(a: dict[str, Any], b: dict[str, Any]) -> Any:
    return np.hypot(_delta_eta(a, b), _delta_phi(a, b))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mass": _mass,
    "pt": _pt,
    "deltaR": _delta_r,
    "deltaPhi": _delta_phi,
    "deltaEta": _delta_eta,
}


def kinematic(function: str) -> Callable[..., Any]:
    """Make the function of an expression: of particles with or without numbers, or of explicit columns."""

    def apply(*arguments: Any) -> Any:
        particles = _particles(function, arguments)
        if function.startswith("delta") and len(particles) != 2:
            raise InputError(f"{function} takes two objects, not {len(particles)}")
        keys = [(i, key) for i, parts in enumerate(particles) for key in parts]

        def flat(*values: Any) -> Any:
            unpacked: list[dict[str, Any]] = [{} for _ in particles]
            for (i, key), value in zip(keys, values, strict=True):
                unpacked[i][key] = np.asarray(value, dtype=np.float64)
            return _FUNCTIONS[function](*unpacked)

        return lifted(flat)(*(particles[i][key] for i, key in keys))

    return apply


def _particles(function: str, arguments: Sequence[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if not isinstance(arguments[0], Particles):
        order = _NEEDED[function][0]
        if len(arguments) % len(order) or any(isinstance(value, Particles) for value in arguments):
            raise InputError(
                f"{function} takes objects, such as {function}(Muon, 0, 1) or {function}(Muon[:,0], Jet[:,0]), or "
                f"{', '.join(order)} of each object"
            )
        return [
            dict(zip(order, arguments[i : i + len(order)], strict=True))
            for i in range(0, len(arguments), len(order))
        ]
    group, used = arguments[0], True
    for argument in arguments:
        if isinstance(argument, Particles):
            if not used:
                found.append(group.parts)
            group, used = argument, False
        elif (
            np.ndim(argument) == 0
            and not isinstance(argument, Jagged)
            and np.asarray(argument).dtype.kind == "i"
        ):
            found.append(group.nth(int(argument)).parts)
            used = True
        else:
            raise InputError(
                f"{function}({group.name}, ...) takes the numbers of objects, counted from 0, or more objects"
            )
    if not used:
        found.append(group.parts)
    return found
