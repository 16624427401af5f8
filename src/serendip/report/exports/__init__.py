"""A finished run in the formats of others: pyhf, Combine, HEPData, ROOT, and a bundle of its models.

Everything is read from the run directory. Content that a format cannot represent correctly is refused with the reason.
"""

from serendip.report.exports.bundle import export_bundle
from serendip.report.exports.combine import export_combine
from serendip.report.exports.hepdata import export_hepdata
from serendip.report.exports.likelihood import SignalShape
from serendip.report.exports.pyhf import export_pyhf
from serendip.report.exports.rootfile import export_root

__all__ = [
    "SignalShape",
    "export_bundle",
    "export_combine",
    "export_hepdata",
    "export_pyhf",
    "export_root",
]
