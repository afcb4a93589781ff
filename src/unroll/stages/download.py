"""Stage download: a task's raw files as served, with source.json beside them."""

from pathlib import Path

from unroll.core import paths
from unroll.core.errors import run_stage
from unroll.core.files import new_folder
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.kaggle.downloads import check_replaceable, check_source, fetch


def main(task_name: str) -> None:
    """Write data/raw/<task>/."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    if config.data.source == "local":
        check_source(Path(config.data.dir), paths.OUTPUTS)
    check_replaceable(paths.raw(task.name))
    with new_folder(paths.raw(task.name)) as scratch:
        origin = fetch(task, config.data, scratch, paths.DOWNLOAD_CACHE)
    print(f"{task.name}: raw files from {origin}")


if __name__ == "__main__":
    run_stage(main)
