"""Kaggle's service: the client, downloads, submissions and their ledger. Imports kaggle."""
