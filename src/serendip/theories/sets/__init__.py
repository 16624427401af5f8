"""Classifiers that treat an event as a set of objects: DeepSets and transformers.

* :mod:`~serendip.theories.sets.layers` - the networks
* :mod:`~serendip.theories.sets.training` - their training
* :mod:`~serendip.theories.sets.network` - a trained classifier, as the rest of :mod:`serendip.theories` uses it
"""

from serendip.theories.sets.network import SetClassifier, SetConfig, train_set_network

__all__ = ["SetClassifier", "SetConfig", "train_set_network"]
