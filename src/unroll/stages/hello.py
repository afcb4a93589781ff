"""Stage hello: the course's three lessons for each cell; --verbose prints every epoch."""

from dataclasses import asdict

from unroll.core import paths
from unroll.core.errors import run_stage
from unroll.core.files import write_json
from unroll.core.params import read_config
from unroll.training.lessons import TARGET, TEXT, teach_all


def main(*flags: str) -> None:
    """Teach each cell to predict "ihello" from "hihell", and write its prediction after each epoch."""
    config, said = read_config(paths.PARAMS), []
    for cell in config.cells:
        for epochs in teach_all(cell, config.hello):
            for each in epochs if "--verbose" in flags else ():
                print(f"{cell}, {each.lesson}: epoch {each.epoch:3d}  loss {each.loss:6.3f}  {each.text}")
            last, right = epochs[-1], [each.epoch for each in epochs if each.text == TARGET]
            first = f"first right at epoch {right[0]}" if right else f"never {TARGET}"
            print(f"{cell}, {last.lesson}: {TEXT} -> {last.text}, loss {last.loss:.3f}, {first}")
            said += [{**asdict(each), "loss": round(each.loss, 4)} for each in epochs]
    write_json(paths.HELLO, {"text": TEXT, "target": TARGET, "said": said})


if __name__ == "__main__":
    run_stage(main)
