"""Recurrent models: cells as equations, span pooling, saved bundles, the ensemble that answers raw text."""
