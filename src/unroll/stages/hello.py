"""Stage hello: the course's three lessons for each cell, printed epoch by epoch."""

from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import write_json
from unroll.core.params import read_config
from unroll.training.hihell import TARGET, TEXT
from unroll.training.lessons import teach_all


def main() -> None:
    """Teach "hihell" to say "ihello" and write what was said after each epoch."""
    config = read_config(paths.PARAMS)
    said = []
    for cell in config.cells:
        lesson = ""
        for words in teach_all(cell, config.hello):
            if words.lesson != lesson:
                print(f"{cell}, {words.lesson.replace('_', ' ')}: {TEXT} -> {TARGET}")
            lesson = words.lesson
            print(f"  epoch {words.epoch:3d}  loss {words.loss:6.3f}  {words.text}")
            said.append(
                {"cell": cell, "lesson": lesson, "epoch": words.epoch, "loss": round(words.loss, 4), "text": words.text}
            )
    write_json(paths.HELLO, {"text": TEXT, "target": TARGET, "said": said})


if __name__ == "__main__":
    run_program(main)
