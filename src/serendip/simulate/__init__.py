"""Simulated events: Pythia 8, a fast detector and FastJet."""
