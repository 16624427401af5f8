"""The study of mixtures of theories: many trainings, one design of the held-out theories, questions and their answers."""
