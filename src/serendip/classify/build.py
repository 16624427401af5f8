"""The classifiers that a method can request by name."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["ClassifierName", "SelectBy", "build_classifier"]

ClassifierName = Literal["trees", "network"]
SelectBy = Literal["loss", "argos"]


def build_classifier(
    name: ClassifierName,
    *,
    members: int,
    seed: int,
    threads: int = 1,
    select_by: SelectBy = "loss",
    validation_fraction: float = 0.5,
) -> Any:
    """Return an untrained ensemble with the settings that the search methods use.

    Parameters
    ----------
    name
        ``"trees"``: :class:`~serendip.classify.trees.TreeEnsemble`;
        ``"network"``: :class:`~serendip.classify.networks.NetworkEnsemble`.
    members
        Classifiers that are averaged.
    seed
        Passed on to the ensemble.
    threads
        Of a network. Trees take one: on samples of this size a second OpenMP thread gains nothing, and on a busy
        machine it costs a factor of ten and more, because threads spin while they wait for each other.
    select_by
        Early-stopping criterion on the validation part: its loss, or ARGOS.
    validation_fraction
        That part of the sample.
    """
    common: dict[str, Any] = {
        "members": members, "select_by": select_by, "validation_fraction": validation_fraction, "random_state": seed,
    }  # fmt: skip
    if name == "trees":
        from serendip.classify.trees import TreeEnsemble

        return TreeEnsemble(**common)
    from serendip.classify.networks import NetworkEnsemble

    return NetworkEnsemble(**common, threads=threads)
