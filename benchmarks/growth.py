"""Time and memory of prepare and tokenize against the size of the data: `python -m benchmarks.growth --data DIR`.

Larger data is made from the competition's files: copies of them under fresh ids, in which the words that stand once in
the training file are spelled anew often enough that the vocabulary grows as it does in real text, with about the 0.6th
power of the number of tokens (Heaps' law).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tests.support.definitions import load_task
from unroll.data.rows import TEST, TRAIN, read_rows

TASK = load_task("sentiment")
# Runs the stage that its argument names, and prints its seconds and the most memory that it held.
STAGE = """
import json, resource, runpy, sys, time
begin = time.perf_counter()
sys.argv = [sys.argv[1], "sentiment"]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": round(time.perf_counter() - begin, 1), "MiB": round(peak)}))
"""


def main() -> None:
    """Make the data, run both stages on it, and print and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/sample"), help="folder of raw files")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="how many copies")
    parser.add_argument("--context", choices=["sentence", "phrase"], default="sentence")
    parser.add_argument("--scratch", type=Path, default=None, help="where the files are made; 100 copies take 6 GB")
    arguments = parser.parse_args()
    params = Path("params.yaml").read_text(encoding="utf-8")
    if arguments.context == "phrase":
        params = params.replace("context: sentence", "context: phrase", 1)
    _, rows = read_rows(TASK, arguments.data / TASK.folder, folds=2, test_share=0.0, seed=1)
    results = []
    for times in arguments.times:
        with TemporaryDirectory(dir=arguments.scratch) as folder:
            project = Path(folder)
            (project / "params.yaml").write_text(params, encoding="utf-8")
            shutil.copytree("competitions", project / "competitions")
            enlarge(rows, times, project / "data/raw/sentiment")
            result: dict[str, object] = {"times": times, "rows": times * len(rows)}
            for stage in ("prepare", "tokenize"):
                result[stage] = run_stage(f"unroll.stages.{stage}", project)
            print(json.dumps(result), flush=True)
            results.append(result)
            shutil.rmtree(project / "data")
    file = Path(f"reports/benchmarks/growth-{arguments.context}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def run_stage(module: str, project: Path) -> dict[str, float]:
    """Run a stage in a process of its own and return its seconds and the most memory that it held."""
    environment = os.environ | {"PYTHONPATH": str(Path("src").resolve())}
    done = subprocess.run(
        [sys.executable, "-c", STAGE, module], cwd=project, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    *told, last = done.stdout.splitlines()
    print(*told, sep="\n", flush=True)
    measured: dict[str, float] = json.loads(last)
    return measured


def enlarge(rows: pd.DataFrame, times: int, folder: Path) -> None:
    """Write copies of a table of rows in the competition's own layout, one after the other."""
    folder.mkdir(parents=True)
    counts = Counter(
        word for text in rows.loc[rows["part"] == TRAIN].groupby("group")["text"].first() for word in text.split()
    )
    once = {word for word, count in counts.items() if count == 1}
    step, groups = int(rows["row_id"].max()) + 1, int(rows["group"].astype("int64").max()) + 1
    columns = [rows[name].tolist() for name in ("row_id", "group", "text", "true:Sentiment", "part")]
    files = {TRAIN: (folder / "train.tsv").open("w"), TEST: (folder / "test.tsv").open("w")}
    files[TRAIN].write("PhraseId\tSentenceId\tPhrase\tSentiment\n")
    files[TEST].write("PhraseId\tSentenceId\tPhrase\n")
    with (folder / "sampleSubmission.csv").open("w") as sample:
        sample.write("PhraseId,Sentiment\n")
        for number in range(times):
            spelled = f"{int(number**0.75)}" if number else ""
            for row_id, group, text, label, part in zip(*columns, strict=True):
                phrase = text
                if spelled:
                    phrase = " ".join(word + spelled if word in once else word for word in text.split(" "))
                new_id = row_id + number * step
                end = f"\t{label:.0f}" if part == TRAIN else ""
                files[part].write(f"{new_id}\t{int(group) + number * groups}\t{phrase}{end}\n")
                if part == TEST:
                    sample.write(f"{new_id},2\n")
    for file in files.values():
        file.close()


if __name__ == "__main__":
    main()
