"""How good predictions are: metrics, ensembling, significance, error analysis, the leaderboard estimate; no files."""
