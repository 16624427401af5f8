"""A signal strength measured with learnt densities.

* :mod:`~serendip.search.infer.run` - the measurement
* :mod:`~serendip.search.infer.config` - its settings
* :mod:`~serendip.search.infer.session` - densities, and the ratio that they give events they never saw
* :mod:`~serendip.search.infer.results` - from that ratio to the numbers of ``infer.json``
"""

from serendip.search.infer.config import InferConfig
from serendip.search.infer.run import InferResult, read_signal, run_infer

__all__ = ["InferConfig", "InferResult", "read_signal", "run_infer"]
