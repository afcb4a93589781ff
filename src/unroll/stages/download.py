"""Stage download: a task's raw files as served, with source.json beside them."""

import sys

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_folder
from unroll.core.params import read_config
from unroll.data.competition import load_competition
from unroll.kaggle.downloads import fetch, write_source_record


def main(task_name: str) -> None:
    """Fetch the raw files of a task into data/raw/<task>/."""
    config, task = read_config(paths.PARAMS), load_competition(paths.competition(task_name))
    with new_folder(paths.raw(task.name)) as scratch:
        origin = fetch(task, config.data, scratch, paths.DOWNLOAD_CACHE)
        write_source_record(scratch, origin)
    print(f"{task.name}: raw files from {origin}")


if __name__ == "__main__":
    run_program(lambda: main(*sys.argv[1:]))
