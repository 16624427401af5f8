"""The study of mixtures of theories: many trainings, one design of what is held out, questions and their answers."""
