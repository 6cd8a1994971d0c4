"""Optuna studies: `-m hydra/sweeper=optuna` searches a space of parameters for the best score; a trial is a run."""
