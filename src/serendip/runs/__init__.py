"""How a program runs: its folder, where its trainings run, and what it tells meanwhile."""
