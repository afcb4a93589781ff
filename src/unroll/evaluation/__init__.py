"""How good predictions are: metrics, ensembling, significance, error analysis and the leaderboard estimate.

Everything here is a pure function of arrays and tables; nothing reads or writes files.
"""
