"""Contract checks for packages that add a method, score, reader, export or validation; call them in your tests.

Each check generates its own small sample and raises an ``AssertionError`` that names the broken promise. The package need not be installed:

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
