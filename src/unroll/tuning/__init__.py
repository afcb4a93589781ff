"""Sweeps over settings. Imports ray and optuna, which are optional."""
