"""Simulated events: Pythia 8, a fast detector and FastJet.

``serendip.simulate(...)`` is :func:`serendip.simulate_dijet`.
"""
