"""Mixtures of theories: the Dark Machines channels, the classifiers trained on many theories, and their figures of merit."""
