"""`unroll predict` on small models that are put where `dvc repro` leaves them."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.support.command import Done, unroll
from tests.support.definitions import load_task
from tests.support.project import ROOT, Project
from unroll.cli.predict import find_file, load_models, shown
from unroll.core.errors import UnrollError
from unroll.core.settings import Config, ModelConfig
from unroll.data.texts import format_csv, read_texts
from unroll.models.bundle import Bundle, save_bundle
from unroll.models.ensemble import Calibration, Ensemble
from unroll.models.predictor import EnsemblePredictor, explain, load_predictor
from unroll.models.span_classifier import SpanClassifier
from unroll.text.vocabulary import UNKNOWN, Vocabulary

WEIGHTS = {"RNN": 0.25, "GRU": 0.75}
FOLDS = (0, 2)
ARGMAX = {"rule": "argmax", "values": []}
TOKENS = {
    "sentiment": ["a", "thin", "plot", ",", "but", "never", "dull", "not", "good", "film", "none"],
    "surnames": list("abcdefghijklmnopqrstuvwxyz' "),
}
NAMES = ["Nakamura", "O'Brien", "", "None", "NA", 'Le "Roi", fils', "two\nlines", "cr\rhere", "Nakamura", " Li ", "Ж"]
PHRASES = [
    "a thin plot , but never dull",
    '"not good',
    "",
    "None",
    "a\x0cfilm",
    "zzyzx  film",
    "a thin plot , but never",
]

Models = dict[str, dict[str, list[Bundle]]]


@pytest.fixture(scope="module")
def models(config: Config) -> Models:
    """Two cells of two folds a task; one fold has not seen the task's last token, the other one not its first."""
    torch.manual_seed(3)
    shape = ModelConfig(
        embedding=5, hidden=4, layers=1, bidirectional=True, pooling=("last", "mean"), head="linear", head_hidden=None,
        embedding_dropout=0.2, layer_dropout=0.0, head_dropout=0.2,
    )  # fmt: skip
    made: Models = {}
    for name, tokens in TOKENS.items():
        task, text = load_task(name), config.task[name].text
        for cell in WEIGHTS:
            for fold in FOLDS:
                vocabulary = Vocabulary((UNKNOWN, *(tokens[1:] if fold else tokens[:-1])))
                model = SpanClassifier(cell, shape, len(vocabulary), len(task.outputs)).eval()
                with torch.no_grad():  # answers that differ much from text to text
                    for weights in model.parameters():
                        weights.mul_(4)
                bundle = Bundle(name, cell, task.kind, task.outputs, text, shape, vocabulary, model)
                made.setdefault(name, {}).setdefault(cell, []).append(bundle)
    return made


@pytest.fixture(scope="module")
def project(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("asked")
    for task, cells in models.items():
        for cell, bundles in cells.items():
            for fold, bundle in zip(FOLDS, bundles, strict=True):
                place = folder / "models" / task / cell / f"fold-{fold}"
                place.mkdir(parents=True)
                save_bundle(place, bundle)
        (folder / "data/ensemble" / task).mkdir(parents=True)
        content = json.dumps({"nested": True, "weights": WEIGHTS, "calibration": None, "decision": ARGMAX})
        (folder / "data/ensemble" / task / "weights.json").write_text(content)
    shutil.copytree(ROOT / "competitions", folder / "competitions")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    return Project(folder)


@pytest.fixture
def predictor(models: Models) -> EnsemblePredictor:
    members = tuple(tuple(bundles) for bundles in models["surnames"].values())
    return EnsemblePredictor(members, Ensemble(np.array(list(WEIGHTS.values())), None))


def ask(project: Project, *arguments: str, given: bytes = b"") -> Done:
    return unroll(project.folder, "predict", *arguments, given=given)


def ensemble(cells: dict[str, list[Bundle]], texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """The answer by its definition, one text at a time."""
    answers = [
        sum(WEIGHTS[cell] * sum(bundle.predict([text]) for bundle in bundles) / len(bundles)
            for cell, bundles in cells.items())
        for text in texts
    ]  # fmt: skip
    return np.concatenate(answers).astype(float)


def told(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_texts_are_answered_for_a_person(project: Project, models: Models) -> None:
    texts = ["Nakamura", "", "O'Brien", "Ж9ж"]
    done = ask(project, "surnames", *texts, "--top", "3")
    expected = ensemble(models["surnames"], texts)
    names = np.array(load_task("surnames").output_names)
    for line, text, row in zip(told(done).splitlines(), texts, expected, strict=True):
        assert line.startswith(text or "''")
        pairs = re.findall(r"(\w+) +(0\.\d{4})", line.removeprefix(text or "''"))
        best = np.argsort(-row)[:3]
        assert [name for name, _ in pairs] == list(names[best])
        np.testing.assert_allclose([float(value) for _, value in pairs], row[best], atol=6e-5)
    assert done.stderr == "unknown letters: 2 (ж, 9)\n"


def test_a_csv_file_comes_back_row_by_row_with_its_answers(project: Project, models: Models) -> None:
    rows = [["id", "name"], *([str(number), name] for number, name in enumerate(NAMES))]
    content = "\ufeff" + format_csv(rows)
    (project.folder / "names.csv").write_text(content, encoding="utf-8", newline="")
    done = ask(project, "surnames", "names.csv", "--top", "2")
    header, *answers = csv.reader(io.StringIO(told(done), newline=""))
    assert header == ["name", "language", "probability", "language_2", "probability_2"]
    assert [row[0] for row in answers] == NAMES, "every row, in its order, letter for letter"
    expected = ensemble(models["surnames"], NAMES)
    labels = np.array(load_task("surnames").outputs)
    for row, answer in zip(expected, answers, strict=True):
        best = np.argsort(-row)[:2]
        assert [answer[1], answer[3]] == list(labels[best])
        np.testing.assert_allclose([float(answer[2]), float(answer[4])], row[best], atol=2e-6)
        assert all(re.fullmatch(r"0\.\d{6}", answer[place]) for place in (2, 4))
    assert done.stderr == "unknown letters in 4 of 11 texts: 5 (\", ,, '\\n', '\\r', ж)\n"


def test_standard_input_is_a_text_a_line_and_json_has_it_all(project: Project, models: Models) -> None:
    lines = [text.encode() for text in PHRASES]
    answers = json.loads(told(ask(project, "sentiment", "-", "--json", given=b"\r\n".join(lines) + b"\n")))
    task = load_task("sentiment")
    assert [answer["text"] for answer in answers] == PHRASES
    expected = ensemble(models["sentiment"], PHRASES)
    for answer, row in zip(answers, expected, strict=True):
        assert list(answer["probabilities"]) == list(task.outputs)
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=1e-6)
        assert answer["label"] == task.outputs[row.argmax()]
        assert answer["name"] == task.output_names[row.argmax()]
        assert answer["probability"] == max(answer["probabilities"].values())
    unknown = [answer["unknown"] for answer in answers]
    assert unknown == [[], ['"not'], [], [], [], ["zzyzx"], []], "a token that one fold knows is known"


def test_a_tsv_file_is_read_as_the_competition_writes_it_and_answered_into_a_file(
    project: Project, models: Models
) -> None:
    lines = ["PhraseId\tPhrase", *(f"{number}\t{phrase}" for number, phrase in enumerate(PHRASES))]
    (project.folder / "phrases.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    output = project.folder / "new/answers.csv"
    done = ask(project, "sentiment", "phrases.tsv", "--cell", "GRU", "-o", str(output))
    assert told(done) == ""
    header, *answers = csv.reader(io.StringIO(output.read_text(encoding="utf-8"), newline=""))
    assert header == ["Phrase", "sentiment", "probability"]
    expected = np.mean([bundle.predict(PHRASES) for bundle in models["sentiment"]["GRU"]], axis=0)
    assert [row[:2] for row in answers] == [
        [text, str(best)] for text, best in zip(PHRASES, expected.argmax(1), strict=True)
    ]
    np.testing.assert_allclose([float(row[2]) for row in answers], expected.max(1), atol=2e-6)
    assert list(output.parent.iterdir()) == [output]


def test_an_explanation_adds_up(project: Project, models: Models) -> None:
    texts = ["a thin plot , but never dull", "not good"]
    lines = told(ask(project, "sentiment", *texts, "--explain")).splitlines()
    names = list(load_task("sentiment").output_names)
    cells = models["sentiment"]
    for text in texts:
        tokens = text.split()
        start = next(number for number, line in enumerate(lines) if line.startswith(text))
        whole = ensemble(cells, [text])[0]
        assert names[whole.argmax()] in lines[start]
        assert f"{whole.max():.4f}" in lines[start]
        without = [" ".join([*tokens[:place], "qwerty", *tokens[place + 1 :]]) for place in range(len(tokens))]
        replaced = ensemble(cells, without)[:, whole.argmax()]
        after = ensemble(cells, [" ".join(tokens[: place + 1]) for place in range(len(tokens))])
        longest = max(abs(whole.max() - replaced))
        explained = lines[start + 2 : start + 2 + len(tokens)]
        for token, line, other, row in zip(tokens, explained, replaced, after, strict=True):
            found = re.fullmatch(r"  (\S+) +([+-]0\.\d{4})  +(-*)\|(\+*) +([a-z ]+?) (0\.\d{4})", line)
            assert found, line
            assert (found[1], found[5]) == (token, names[row.argmax()])
            assert float(found[2]) == pytest.approx(whole.max() - other, abs=6e-5)
            assert len(found[4]) - len(found[3]) == pytest.approx(16 * (whole.max() - other) / longest, abs=0.51)
            assert float(found[6]) == pytest.approx(row.max(), abs=6e-5)
        assert explained[-1].split()[-1] == f"{whole.max():.4f}", "after the last token everything is read"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("latin.csv", "name\nLi\nM\u00fcller\n".encode("latin-1"), "latin.csv: line 3: byte 0xfc is not UTF-8"),
        ("empty.txt", b"", "empty.txt: the file is empty"),
        ("nul.txt", b"Li\nXi\0\n", "nul.txt: line 2: found a NUL byte"),
        (
            "ragged.csv",
            b'name,id\n"two\nlines",1\nLi\n',
            "ragged.csv: line 4: expected 2 fields, as in line 1, found 1",
        ),
        ("other.csv", b"first,last\nLi,Xi\n", "found the columns first, last"),
    ],
)
def test_a_bad_file_is_one_sentence_and_nothing_is_written(
    project: Project, name: str, content: bytes, told: str
) -> None:
    (project.folder / name).write_bytes(content)
    output = project.folder / "kept/answers.csv"
    output.parent.mkdir(exist_ok=True)
    output.write_text("of yesterday")
    done = ask(project, "surnames", name, "--output", str(output))
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {name}: ")
    assert told in line
    assert output.read_text() == "of yesterday"
    assert list(output.parent.iterdir()) == [output]


def test_without_models_it_says_how_to_make_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "competitions", tmp_path / "competitions")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    done = ask(Project(tmp_path), "surnames", "Li")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: models/surnames: no trained models; `dvc repro` trains them")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["competitions", "params.yaml"]


def test_the_lesson_is_no_task_to_ask() -> None:
    for name in ("hello", "nope"):
        with pytest.raises(UnrollError, match=f"{name}.yaml: no such file, so there is no task '{name}'"):
            load_task(name)


def test_the_models_asked_are_those_of_the_ensemble_and_all_of_them(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project.folder / "models", tmp_path / "models")
    shutil.copytree(project.folder / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    task = load_task("surnames")
    assert [bundle.cell for bundle in load_models(task, None)[0].bundles] == ["RNN", "RNN", "GRU", "GRU"]
    assert [bundle.cell for bundle in load_models(task, "GRU")[0].bundles] == ["GRU", "GRU"]
    with pytest.raises(UnrollError, match=r"models/surnames/LSTM: no trained model; .*--cell RNN or GRU"):
        load_models(task, "LSTM")
    shutil.rmtree("models/surnames/GRU")
    with pytest.raises(UnrollError, match=r"models/surnames/GRU: no trained model; .*--cell RNN"):
        load_models(task, None)
    (tmp_path / "data/ensemble/surnames/weights.json").unlink()
    with pytest.raises(UnrollError, match=r"weights\.json: no such file"):
        load_models(task, None)
    assert load_models(task, "RNN")[0].ensemble.weights.tolist() == [1.0], "one cell needs no ensemble"


def test_the_answer_is_calibrated_by_the_texts_own_length(predictor: EnsemblePredictor) -> None:
    classes = len(predictor.bundles[0].outputs)
    weights = np.concatenate([np.eye(classes), np.zeros((classes, 1))], axis=1)
    weights[3, -1] = 2.0  # the longer a text, the more it is of class 3
    plain = predictor.predict(["Li", "Nakamura"])
    calibrated = EnsemblePredictor(
        predictor.members, Ensemble(predictor.ensemble.weights, Calibration(weights, np.zeros(classes)))
    )
    found = calibrated.predict(["Li", "Nakamura"])
    expected = plain * np.where(np.arange(classes) == 3, np.array([[4.0], [64.0]]), 1)
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-5)


def test_models_that_read_or_answer_otherwise_do_not_answer_together(models: Models, tmp_path: Path) -> None:
    first = models["surnames"]["RNN"][0]
    other = Bundle(**{**vars(first), "text": first.text.model_copy(update={"lower": False})})
    for name, bundle in (("first", first), ("other", other)):
        (tmp_path / name).mkdir()
        save_bundle(tmp_path / name, bundle)
    folders = {"RNN": [tmp_path / "first"], "GRU": [tmp_path / "other"]}
    with pytest.raises(UnrollError, match="other: trained with other text settings than"):
        load_predictor(folders, WEIGHTS, first.outputs)
    with pytest.raises(UnrollError, match=r"first: found the outputs Arabic, .*, expected low, high"):
        load_predictor(folders, WEIGHTS, ("low", "high"))


def test_a_text_that_stands_twice_is_read_once(predictor: EnsemblePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Bundle.predict

    def count(bundle: Bundle, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        read.append(len(texts))
        return plain(bundle, texts)

    monkeypatch.setattr(Bundle, "predict", count)
    answers = predictor.predict(["Li", "Xi", "Li", "Li"])
    assert read == [2, 2, 2, 2]
    assert (answers[[0, 0]] == answers[[2, 3]]).all()
    assert (answers[0] != answers[1]).any()
    read.clear()
    explain(predictor, ["Li", "Nakamura"])
    assert len(read) == 4, "all variants of all texts are asked at once"


def test_a_letter_is_taken_away_by_one_that_no_bundle_knows(predictor: EnsemblePredictor, models: Models) -> None:
    first = predictor.bundles[0]
    strange = Bundle(**{**vars(first), "vocabulary": Vocabulary((*first.vocabulary.tokens[:-1], "\ue000"))})
    [reading] = explain(EnsemblePredictor(((strange,), predictor.members[1]), predictor.ensemble), ["Li9 é"])
    assert reading.tokens == ["l", "i", "9", " ", "é"]
    assert abs(reading.without[[2, 4]] - reading.probability).max() < 1e-6, "what is unknown already changes nothing"
    assert abs(reading.without[:2] - reading.probability).min() > 1e-6
    [nothing] = explain(predictor, [""])
    assert (nothing.tokens, nothing.after.shape) == ([], (0, 18))


def test_a_text_is_shown_in_one_line_and_steers_no_terminal() -> None:
    assert [shown(text) for text in ("Li", "", " Li", "a\x1b[31mb", "a\nb")] == [
        "Li",
        "''",
        "' Li'",
        r"'a\x1b[31mb'",
        r"'a\nb'",
    ]


def test_a_text_too_long_for_memory_is_refused_and_many_are_read_in_parts(
    project: Project, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = ask(project, "surnames", "-", given=b"Li\n" + b"a" * 1_000_000)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: text 2: has 1,000,000 tokens, expected at most 20,000\n"
    monkeypatch.setattr("unroll.models.inference.MAX_TOKENS", 9)
    names = ["Nakamura", "Li", "Xi", "Yablokov", "Nakamura"]
    rows = list(csv.reader(io.StringIO(told(ask(project, "surnames", "-", given="\n".join(names).encode())))))[1:]
    probabilities = ensemble(models["surnames"], names).max(1)
    assert [row[0] for row in rows] == names
    np.testing.assert_allclose([float(row[2]) for row in rows], probabilities, atol=2e-6)


def test_standard_input_that_is_closed_and_output_that_is_a_device(project: Project) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=project.folder, env=project.environment() | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True, text=True,
        )  # fmt: skip

    closed = shell("unroll predict surnames - <&-")
    assert (closed.returncode, closed.stderr[:32]) == (1, "error: standard input is closed;")
    through = shell("unroll predict surnames Li -o /dev/stdout | cat")
    assert through.stdout.startswith("text,language,probability\nLi,"), through.stderr


def test_which_argument_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names").write_text("Li\n")
    assert find_file(["names"]) == "names"
    assert find_file(["-"]) == "-"
    assert find_file(["Li"]) is None
    assert find_file(["."]) is None, "a folder is no file of texts, and a full stop is a phrase"
    assert find_file(["", "a b" * 5000]) is None
    with pytest.raises(UnrollError, match="names: is a file, expected no other arguments beside it"):
        find_file(["Li", "names"])
    with pytest.raises(UnrollError, match=r"names\.csv: no such file"):
        find_file(["names.csv"])
    (tmp_path / "names").unlink()
    with pytest.raises(UnrollError, match="names: cannot be read"):
        read_texts(Path("names"), ["name"])
