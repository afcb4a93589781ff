import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unroll
from tests.support.definitions import load_task
from unroll.core.errors import UnrollError
from unroll.core.settings import TaskConfig, TrainConfig
from unroll.data.rows import predictions_of
from unroll.models.bundle import Bundle, load_bundle
from unroll.text.corpus import TEST_FOLD, Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training import cache as fold_cache
from unroll.training.cache import FoldResult
from unroll.training.cross_validation import Training, collect_folds, refits_of
from unroll.training.fold_data import TrainingData, prepare_fold
from unroll.training.parallel import train_once

TASK = load_task("sentiment")


@pytest.fixture
def data(small_corpus: tuple[Corpus, Vocabulary]) -> TrainingData:
    corpus, vocabulary = small_corpus
    return TrainingData(corpus, "digest", vocabulary, None)


def run(fold: int, data: TrainingData, config: TaskConfig, cache: Path) -> FoldResult:
    return train_once(Training(TASK, "GRU", fold, config, seed=1), data, cache)


def bundle_of(result: FoldResult) -> Bundle:
    return load_bundle(result.done)


def test_a_token_that_the_folds_training_rows_lack_is_unknown_in_it(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path
) -> None:
    tokens = bundle_of(run(2, data, task_config, tmp_path)).vocabulary.tokens
    assert "bad" in data.vocabulary.tokens
    assert "bad" not in tokens
    assert "good" in tokens


def test_min_count_counts_in_the_folds_own_training_rows(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path
) -> None:
    text = task_config.text.model_copy(update={"min_count": 2})
    config = task_config.model_copy(update={"text": text})
    # "very" stands twice in all, but once in the rows that the last fold trains on
    assert "very" not in bundle_of(run(2, data, config, tmp_path)).vocabulary.tokens
    assert "very" in bundle_of(run(1, data, config, tmp_path)).vocabulary.tokens


def test_a_bundle_reads_a_row_kept_back_as_the_fold_did(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path
) -> None:
    result = run(2, data, task_config, tmp_path)
    row_ids, predictions = result.predictions("valid")
    assert row_ids.tolist() == [105, 106, 107]
    np.testing.assert_allclose(bundle_of(result).predict(["a very bad film"])[0], predictions[0], atol=1e-6)


def test_a_model_of_all_rows_stops_where_the_folds_were_best(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path
) -> None:
    train = task_config.train.model_copy(update={"epochs": 4, "min_steps": 1})
    split = task_config.split.model_copy(update={"refit": 2})
    config = task_config.model_copy(update={"train": train, "split": split})
    trained = [(Training(TASK, "GRU", fold, config, seed=1), run(fold, data, config, tmp_path)) for fold in (0, 2)]
    for (_, result), best in zip(trained, (1, 2), strict=True):
        history = json.loads((result.done / "history.json").read_text())
        assert history["planned"] == 4
        (result.done / "history.json").write_text(json.dumps({**history, "best_epoch": best}))
    first, second = refits_of(trained)
    assert (first.refit, first.fold, second.fold, str(second)) == (0.375, 0, 1, "sentiment GRU refit 1")
    assert len({each.key(data) for each in (first, second, trained[0][0])}) == 3
    results = [train_once(each, data, tmp_path) for each in (first, second)]
    for result in results:
        history = json.loads((result.done / "history.json").read_text())
        assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]  # 0.375 of 4, rounded
        assert result.summary()["best_epoch"] == 2
        assert "bad" in bundle_of(result).vocabulary.tokens  # which stands in the last fold alone
        assert [len(values) for values in result.predictions("valid")] == [0, 0]
    assert results[0].summary()["digest"] != results[1].summary()["digest"]


def test_a_finished_fold_is_not_trained_again(data: TrainingData, task_config: TaskConfig, tmp_path: Path) -> None:
    first = run(0, data, task_config, tmp_path)
    written = (first.done / "weights.safetensors").stat().st_mtime_ns
    again = run(0, data, task_config, tmp_path)
    assert (again.done / "weights.safetensors").stat().st_mtime_ns == written
    assert not list(tmp_path.rglob("epoch-*"))


def test_a_finished_fold_that_is_damaged_is_told_and_trained_again(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(1, data, task_config, tmp_path)
    weights = whole.done / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    capsys.readouterr()
    again = run(1, data, task_config, tmp_path)
    assert f"warning: {weights}: missing or damaged" in capsys.readouterr().err
    assert (again.done / "weights.safetensors").read_bytes() == before


def test_the_key_of_a_fold_changes_with_all_that_it_comes_from(
    data: TrainingData, task_config: TaskConfig, plain_recipe: TrainConfig
) -> None:
    def key(data: TrainingData = data, **changed: object) -> str:
        parts = {"cell": "GRU", "fold": 0, "config": task_config, "seed": 1, **changed}
        return Training(TASK, **parts).key(data)  # type: ignore[arg-type]

    other_recipe = task_config.model_copy(update={"train": plain_recipe.model_copy(update={"lr": 0.02})})
    other_material = TrainingData(data.corpus, "another digest", data.vocabulary, None)
    keys = {key(), key(cell="RNN"), key(fold=1), key(seed=2), key(config=other_recipe), key(data=other_material)}
    assert len(keys) == 6
    assert key() == key()


def test_the_code_in_the_key_is_that_of_the_packages_that_a_fold_depends_on(tmp_path: Path) -> None:
    code_digest = fold_cache.code_digest.__wrapped__
    package = tmp_path / "unroll"
    shutil.copytree(Path(unroll.__file__).parent, package)
    before = code_digest(package)
    assert before == code_digest(Path(unroll.__file__).parent)
    for name in ("evaluation/significance.py", "report/page.py", "cli/app.py"):
        (package / name).write_text("changed = True")
        assert code_digest(package) == before
    for name in ("evaluation/metrics.py", "training/fit.py", "text/corpus.py", "models/cells.py", "data/rows.py"):
        (package / name).write_text(f"{name!r}")
        changed = code_digest(package)
        assert changed != before
        before = changed


def test_pretrained_vectors_start_the_embedding_and_must_fit_it(
    small_corpus: tuple[Corpus, Vocabulary], task_config: TaskConfig, plain_recipe: TrainConfig, tmp_path: Path
) -> None:
    corpus, vocabulary = small_corpus
    vectors = np.full((len(vocabulary), 5), 7, dtype=np.float32)
    vectors[vocabulary.tokens.index("film")] = np.nan
    still = task_config.model_copy(update={"train": plain_recipe.model_copy(update={"lr": 1e-9, "epochs": 1})})
    bundle = bundle_of(run(0, TrainingData(corpus, "vectors", vocabulary, vectors), still, tmp_path))
    assert bundle.model.embedding is not None
    weight = bundle.model.embedding.weight
    found = {token: bool((weight[number] > 6.9).all()) for number, token in enumerate(bundle.vocabulary.tokens)}
    assert found["good"]
    assert not found["film"]
    with pytest.raises(UnrollError, match=r"sentiment.model.embedding: found 5, but the vectors have 6 numbers"):
        run(
            0,
            TrainingData(corpus, "wrong", vocabulary, np.zeros((len(vocabulary), 6), np.float32)),
            task_config,
            tmp_path,
        )


def test_a_word_with_a_vector_is_known_in_a_fold_that_did_not_train_on_it(
    small_corpus: tuple[Corpus, Vocabulary], task_config: TaskConfig, tmp_path: Path
) -> None:
    """The word "bad" stands in the third sentence alone, which fold 2 holds out."""
    corpus, vocabulary = small_corpus
    vectors = np.full((len(vocabulary), 5), np.nan, dtype=np.float32)
    without = bundle_of(run(2, TrainingData(corpus, "without", vocabulary, vectors), task_config, tmp_path))
    assert "bad" not in without.vocabulary.tokens
    vectors[vocabulary.tokens.index("bad")] = 0.5
    assert (
        "bad"
        in bundle_of(run(2, TrainingData(corpus, "with", vocabulary, vectors), task_config, tmp_path)).vocabulary.tokens
    )


def test_a_language_model_reads_the_test_part_along_without_its_labels(
    data: TrainingData, task_config: TaskConfig, full_recipe: TrainConfig
) -> None:
    data = replace(data, corpus=replace(data.corpus, folds=np.array([0, 1, TEST_FOLD])))
    for language_model, train in ((0.1, [0, 2]), (0.0, [0])):
        recipe = full_recipe.model_copy(update={"language_model": language_model})
        config = task_config.model_copy(update={"train": recipe})
        fold = prepare_fold(data, data.corpus.folds == 1, config, "GRU")
        assert [fold.train.tolist(), fold.valid.tolist(), fold.test.tolist()] == [train, [1], [2]]
        assert np.isfinite(fold.corpus.targets[:, 0]).tolist() == [True] * 5 + [False] * 3
        assert "bad" not in fold.vocabulary.tokens, "what only the test part holds is unknown"


def test_out_of_fold_tables_stack_folds_and_test_tables_average_them(
    data: TrainingData, task_config: TaskConfig, tmp_path: Path
) -> None:
    results = [run(fold, data, task_config, tmp_path) for fold in (0, 1, 2)]
    table = collect_folds(results, "valid", TASK)
    assert table["row_id"].tolist() == list(range(100, 108))
    assert table["fold"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    right = predictions_of(table, TASK).argmax(1) == np.array([4, 4, 1, 3, 2, 0, 1, 2])
    found = [result.summary()["accuracy"] for result in results]
    assert found == [right[:2].mean(), right[2:5].mean(), right[5:].mean()]

    for number, result in enumerate(results):
        np.savez(result.done / "test.npz", row_ids=[9, 8], predictions=np.full((2, 5), number / 10))
    test = collect_folds(results, "test", TASK)
    assert test["row_id"].tolist() == [8, 9]
    np.testing.assert_allclose(predictions_of(test, TASK), 0.1)
