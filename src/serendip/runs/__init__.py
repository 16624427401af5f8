"""How a program runs: its folder, where its trainings run, and its progress messages."""
