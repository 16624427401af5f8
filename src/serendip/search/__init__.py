"""The scan: configuration, folds, tasks, engine, run directory, blinding.

``serendip.search(...)`` is :func:`serendip.run_search`.
"""
