"""Fits, p-values and trials factors: arrays in, numbers out.

* :mod:`~serendip.statistics.functions` - background functions and their bin integrals
* :mod:`~serendip.statistics.fit` - binned Poisson fit of one spectrum; :mod:`~serendip.statistics.many` of
many
* :mod:`~serendip.statistics.pvalues` - counting p-values, significances, combinations, intervals
* :mod:`~serendip.statistics.binning` - mass ranges and bins around a window
* :mod:`~serendip.statistics.looks` - from scores to the p-value of one look
* :mod:`~serendip.statistics.trials` - the global p-value over all looks
* :mod:`~serendip.statistics.bump` - a bump hunt without any classifier
"""
