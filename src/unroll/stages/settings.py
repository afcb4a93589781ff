"""Stage settings: a task's settings, defaults and differences, as a file on whose keys the other stages depend."""

from unroll.core import paths
from unroll.core.errors import UnrollError, run_stage
from unroll.core.files import write_json
from unroll.core.params import read_config


def main(task_name: str) -> None:
    """Write data/settings/<task>.json."""
    config = read_config(paths.PARAMS)
    if task_name not in config.task:
        raise UnrollError(f"{paths.PARAMS}: tasks: found no {task_name}; add it")
    settings = config.task[task_name].model_dump(exclude={"tune"})
    corpus = settings["pretrain"]["corpus"] if task_name in config.pretrained else None
    settings["corpus"] = config.corpora[corpus].model_dump() if corpus else None
    write_json(paths.settings(task_name), settings)


if __name__ == "__main__":
    run_stage(main)
