"""Hyperparameter searches. The only importer of Ray Tune and Optuna, which are optional."""
