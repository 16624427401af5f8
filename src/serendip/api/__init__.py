"""The public interface of ``import serendip``: programs and fits as functions of a table of events, and finished runs as objects.

* :mod:`~serendip.api.programs` - :func:`serendip.run_search` and the other programs
* :mod:`~serendip.api.run` - a finished search: looks, tables, figures, histograms, exports
* :mod:`~serendip.api.spectra` - bump hunt and signal fit of one spectrum
"""
