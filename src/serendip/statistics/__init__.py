"""Fits, p-values and limits: arrays in, numbers out. Nothing here knows files, methods or torch.

**One spectrum of masses**

* a window chosen before looking: :func:`~serendip.statistics.bump.bump_hunt`
* no idea where, nor how wide: :func:`~serendip.statistics.anywhere.find_peak`, with a global p-value
* a shape that is known (:func:`~serendip.statistics.signals.parse_shape`): :func:`~serendip.statistics.spectrum_fit.fit_resonance` for
  strength, interval, significance and limit; :func:`~serendip.statistics.spectrum_fit.scan_masses` at many masses
* bins instead of events: :func:`~serendip.statistics.scans.q0_scan` for a known shape, :func:`~serendip.statistics.scans.bump_hunter` (the
  statistic of BumpHunter) for none
* the background alone: :func:`~serendip.statistics.fit.fit_spectrum` for one spectrum, :func:`~serendip.statistics.many.fit_many` for thousands of
  toys, :func:`~serendip.statistics.sliding.sliding_window_fits` if no function describes the whole range
* does the fit describe it: :func:`~serendip.statistics.goodness.goodness_of_fit`; what does it find where there is no signal:
  :func:`~serendip.statistics.spurious.spurious_signal`

**A count**

* p-value of a count whose expectation has an error: :func:`~serendip.statistics.pvalues.count_p_value`; without error:
  :func:`~serendip.statistics.pvalues.poisson_p`; as a significance: :func:`~serendip.statistics.pvalues.z_value`
* a sum of weights: :class:`~serendip.statistics.compound.CompoundTail`
* an expectation from three regions: :mod:`~serendip.statistics.abcd`; from a background template:
  :mod:`~serendip.statistics.template_count`
* how wrong the expectation would have to be: :func:`~serendip.statistics.margin.expectation_margin`

**A signal strength**

* in bins: :class:`~serendip.statistics.model.BinnedModel` is the likelihood; :func:`~serendip.statistics.inference.discovery_z` and
  :func:`~serendip.statistics.inference.interval` (asymptotic), :func:`~serendip.statistics.feldman_cousins.feldman_cousins` (few events),
  :func:`~serendip.statistics.limits.upper_limit` (CLs)
* unbinned, from two densities: :class:`~serendip.statistics.mixture.MixtureLikelihood`

**Many results**

* from scores of events to the p-value of one look: :func:`~serendip.statistics.looks.analyse_look`; ranks of scores:
  :mod:`~serendip.statistics.ranks`, each rule once
* the p-value of the best of many looks: :func:`~serendip.statistics.trials.global_p_value` (toys);
  :func:`~serendip.statistics.pvalues.bonferroni` if nothing is known of their dependence
* independent significances: :func:`~serendip.statistics.pvalues.stouffer`
* data that are looked at after every period: :mod:`~serendip.statistics.eprocess`
* a null distribution that was measured: :class:`~serendip.statistics.calibration.NullDistribution`
"""
