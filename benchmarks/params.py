"""The settings that benchmarks take from params.yaml."""

import shutil
import tempfile
from pathlib import Path

from benchmarks import dataset
from unroll.core.params import choose_profile, read_config
from unroll.core.settings import TaskConfig

ROOT = Path(__file__).parents[1]


def settings(profile: str | None = None) -> tuple[TaskConfig, int]:
    """Return the sentiment section of params.yaml, or of a profile upon it, and the seed."""
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder, "params.yaml")
        shutil.copyfile(ROOT / "params.yaml", params)
        if profile is not None:
            choose_profile(params, ROOT / "profiles", profile)
        config = read_config(params)
    return config.task[dataset.TASK.name], config.seed
