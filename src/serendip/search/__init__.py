"""The scan: configuration, folds, tasks, engine, run directory, blinding."""
