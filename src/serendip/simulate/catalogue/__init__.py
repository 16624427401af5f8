"""Points of new theories that can be simulated, by family, and their acceptance."""
