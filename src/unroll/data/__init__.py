"""Competitions as data: definitions, their files read into one table of rows, splits, the submission file."""
