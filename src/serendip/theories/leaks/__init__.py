"""Leak audit: differences between two samples that are artefacts, not physics.

* :mod:`~serendip.theories.leaks.comparison` - the audit
* :mod:`~serendip.theories.leaks.features` - the numbers of an event that it tests
* :mod:`~serendip.theories.leaks.tests` - edges of support, digits, repeated values
* :mod:`~serendip.theories.leaks.report` - the findings, as values and as text
"""

from serendip.theories.leaks.comparison import audit
from serendip.theories.leaks.report import EdgeLeak, FormLeak, LeakReport, Separation

__all__ = ["EdgeLeak", "FormLeak", "LeakReport", "Separation", "audit"]
