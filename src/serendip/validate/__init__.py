"""Is the search right on *your* data? Each kind of validation answers one question with checks that pass or fail.

``serendip.validate(...)`` is :func:`serendip.run_validate`. Which kind to choose:

* before anything else, and cheap: ``closure`` (is the background estimate right outside the window?) and ``sculpting`` (does a cut on the score
  make a bump?)
* before unblinding: ``control`` (a search where no signal is expected) and ``bias`` (does a wrong background function look like a signal?)
* the rate of false claims is to be quoted: ``null``, the whole chain on many samples without signal; it takes that many searches
* what is measured is a signal strength: ``coverage`` of its intervals, ``injection`` of signal of known size
* a method starts from simulation: ``simulation``, a classifier between simulation and data

:func:`run_validations` runs several and stores a :class:`Validation` for each, which is a list of :class:`Check`.
"""

from __future__ import annotations

from serendip.validate.base import Check, Validation, read_validations
from serendip.validate.engine import run_validations

__all__ = ["Check", "Validation", "read_validations", "run_validations"]
