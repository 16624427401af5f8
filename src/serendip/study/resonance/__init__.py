"""Whether the score of a mixture of theories helps a search for a resonance that is not in the mixture.

* :mod:`~serendip.study.resonance.question` - the study itself
* :mod:`~serendip.study.resonance.config` - its options
* :mod:`~serendip.study.resonance.table` - events of a channel as a table with a mass and features
* :mod:`~serendip.study.resonance.data` - simulated events as pseudo-data
* :mod:`~serendip.study.resonance.looks` - what cuts on a score find there
* :mod:`~serendip.study.resonance.answer` - the numbers that are compared
"""
