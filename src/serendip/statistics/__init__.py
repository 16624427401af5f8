"""Fits, p-values and trials factors: arrays in, numbers out.

* :mod:`~serendip.statistics.functions` - background functions and their bin integrals
* :mod:`~serendip.statistics.fit` - binned Poisson fit of one spectrum; :mod:`~serendip.statistics.many` of
many
* :mod:`~serendip.statistics.pvalues` - counting p-values, significances, combinations, intervals
* :mod:`~serendip.statistics.binning` - mass ranges and bins around a window
* :mod:`~serendip.statistics.goodness` - toys that judge a fit; :mod:`~serendip.statistics.sliding` - fits in sliding windows
* :mod:`~serendip.statistics.signals` - shapes of a resonance; :mod:`~serendip.statistics.model` - signal plus background
* :mod:`~serendip.statistics.inference` - discovery and intervals; :mod:`~serendip.statistics.limits` - CLs limits;
  :mod:`~serendip.statistics.spurious` - what a fit finds where there is no signal;
  :mod:`~serendip.statistics.scans` - scans of a spectrum with a global p-value;
  :mod:`~serendip.statistics.spectrum_fit` - all of these from the masses of events
* :mod:`~serendip.statistics.abcd` - three regions predict a fourth; :mod:`~serendip.statistics.template_count` - a template
  predicts a count; :mod:`~serendip.statistics.mixture` - the signal strength from two densities
* :mod:`~serendip.statistics.looks` - from scores to the p-value of one look
* :mod:`~serendip.statistics.trials` - the global p-value over all looks
* :mod:`~serendip.statistics.bump` - a bump hunt without any classifier
"""
