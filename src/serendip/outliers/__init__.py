"""Unsupervised scores: estimators with ``fit`` and ``score_samples`` that know background only, and their combinations."""
