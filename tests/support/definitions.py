"""The project's own competitions, for tests and benchmarks."""

from pathlib import Path

from unroll.data.competition import Competition, load_competition

FOLDER = Path(__file__).parents[2] / "competitions"


def load_task(name: str) -> Competition:
    """Return the definition of `sentiment` or `surnames`."""
    return load_competition(FOLDER / f"{name}.yaml")
