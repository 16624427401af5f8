"""A search that looks at the data after every period of data taking.

* :mod:`~serendip.search.monitor.run` - the monitor
* :mod:`~serendip.search.monitor.config` - its settings
* :mod:`~serendip.search.monitor.periods` - stored periods, checks of new ones, and the trainings on all of the past
"""

from serendip.search.monitor.config import MonitorConfig
from serendip.search.monitor.run import MonitorResult, run_monitor

__all__ = ["MonitorConfig", "MonitorResult", "run_monitor"]
