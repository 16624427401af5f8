"""Search methods: one file per published method.

A method gives every event a score that is higher for events unlike background (:class:`~serendip.methods.base.Method`);
:func:`~serendip.methods.registry.get_method` finds one by name. Which to choose:

* start with ``cwola`` and ``cathode``: both need nothing but data, and they fail in different ways
* features are independent of the mass (:func:`serendip.inspect` tells): ``cwola``, the cheapest
* some depend on the mass: ``cathode``, whose template has the same dependence; if the spectrum must not be sculpted at all: ``lacathode``
* the template should consist of real events: ``curtains``
* there is a good simulation of the background: ``salad`` (reweights it), ``feta`` (transports it)
* very little signal is expected: ``ranode``, which fits the signal on top of a frozen background; ``anode`` is its forerunner
* several of these as one: ``ensemble``
* no training, as the reference: ``bump-hunt``
* labels are known, as upper references for a comparison: ``supervised``, ``idealised``
* outliers, without sidebands: the outlier scores (``isolation-forest``, ``autoencoder``, ...), for comparison only,
  since signal is an overdensity and not an outlier

A new method derives from :class:`~serendip.methods.template_method.TemplateMethod` if it provides a background template in the window, from
:class:`~serendip.methods.density_ratio.DensityRatioMethod` if it evaluates two densities, and from
:class:`~serendip.methods.base.Method` otherwise.
"""
