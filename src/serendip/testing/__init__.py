"""Checks of the contracts of methods, scores, readers, exports and validations, for the tests of packages that add one.

Each check makes its own small sample and stops with an ``AssertionError`` that says which promise is broken. The package need not be installed:

>>> from serendip.methods.bump_hunt import BumpHunt
>>> from serendip.testing import check_method
>>> check_method(BumpHunt)
"""

from serendip.testing.exports import check_export
from serendip.testing.methods import check_method
from serendip.testing.readers import check_reader
from serendip.testing.scores import check_score
from serendip.testing.validations import check_validation

__all__ = ["check_export", "check_method", "check_reader", "check_score", "check_validation"]
