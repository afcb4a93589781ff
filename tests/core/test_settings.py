from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from unroll.core.errors import UnrollError
from unroll.core.params import parse_config, read_config
from unroll.core.settings import Config

PARAMS = Path(__file__).parents[2] / "params.yaml"
Change = Callable[[str, object], Config]


def test_the_projects_own_settings_are_accepted_and_frozen(config: Config) -> None:
    assert set(config.tasks) <= config.task.keys()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("sentiment.train.learning_rate", 0.1, ["sentiment.train.learning_rate", "unknown key", "lr"]),
        ("sentimint", 3, ["sentimint", "unknown key", "seed, profile, data"]),
        ("surnames.train.lr", -1, ["surnames.train.lr", "found -1", "greater than 0"]),
        ("surnames.train.lr", "fast", ["surnames.train.lr", "found 'fast'", "number"]),
        ("sentiment.model.pooling", ["mean", "median"], ["sentiment.model.pooling.1", "found 'median'", "'max'"]),
        ("sentiment.model.pooling", ["mean", "mean"], ["sentiment.model.pooling: duplicate value 'mean'"]),
        ("sentiment.split.run_folds", [0, 5], ["sentiment.split", "from 0 to 4"]),
        ("sentiment.model.bidirectional", "yes", ["sentiment.model.bidirectional", "found 'yes'", "boolean"]),
        ("cells", ["RNN", "Transformer"], ["cells.1", "found 'Transformer'", "'GRU'"]),
        ("data.source", "s3", ["data.source", "found 's3'", "'kaggle'"]),
        ("defaults.train.lr", -1, ["defaults.train.lr", "found -1", "greater than 0"]),
        ("tasks", "sentiment", ["tasks: found 'sentiment', expected a list, as in [sentiment]"]),
        ("seed", 1.5, ["seed", "found 1.5", "integer"]),
        ("seed", 2**32, ["seed", "found 4294967296", "less than 4294967296"]),
        ("cells", ["LSTM", "LSTM"], ["cells: duplicate value 'LSTM'"]),
        ("tasks", ["sentiment", "sentiment"], ["tasks: duplicate value 'sentiment'"]),
        ("surnames.text.context", "sentence", ["surnames.text", "tokenizer characters with context sentence"]),
        ("surnames.split.test_share", 0.98, ["surnames.split.test_share", "found 0.98", "less than or equal to 0.5"]),
        (
            "surnames.split.test_share",
            0.003,
            ["surnames.split.test_share: found 0.003, expected 0 or a number from 0.01 to 0.5"],
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_key_what_was_found_and_what_is_allowed(
    changed_config: Change, path: str, value: object, told: list[str]
) -> None:
    with pytest.raises(UnrollError) as error:
        changed_config(path, value)
    for words in ["params.yaml", *told]:
        assert words in str(error.value)


def test_a_task_has_the_defaults_and_what_its_own_section_changes(changed_config: Change) -> None:
    config = changed_config("spooky.train.epochs", 3)
    assert config.task["spooky"].train == config.defaults.train.model_copy(update={"epochs": 3})
    assert config.task["spooky"].model == config.defaults.model
    assert changed_config("tasks", ["new"]).task["new"] == config.defaults


def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path) -> None:
    content = PARAMS.read_text().replace("weight_decay: 0.01", "weight_decay: 1e-05")
    (tmp_path / "params.yaml").write_text(content)
    assert read_config(tmp_path / "params.yaml").task["sentiment"].train.weight_decay == 1e-5


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\ntasks: []\n")
    with pytest.raises(UnrollError, match=r"params.yaml: data: missing"):
        read_config(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "told"), [("seed: [1", "not readable as YAML"), ("- 1", "expected sections"), (b"\xff\xfe", "YAML")]
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UnrollError, match=told):
        read_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnrollError, match=r"params.yaml: no such file"):
        read_config(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({}, r"defaults.tune.space: found {}; "),
        ({"train.speed": {"choices": [1, 2]}}, r"defaults.tune.space.train.speed: no such setting; expected model"),
        ({"text.min_count": {"choices": [1, 2]}}, r"tune.space.text.min_count: no such setting"),
        (
            {"train.lr": {"low": 0.1, "high": 0.01, "log": True}},
            r"lr: found low 0.1 and high 0.01, expected either choices, or low < high",
        ),
        ({"train.lr": {"low": 0.0, "high": 0.01, "log": False}}, r"tune.space.train.lr: found 0.0; Input should be gr"),
        ({"model.hidden": {"choices": [64, "many"]}}, r"tune.space.model.hidden: found 'many'; Input should be a val"),
        ({"train.lr": {"choices": [0.1, 0.2], "log": True}}, r"train.lr.log: found true with \(0.1, 0.2\), expected a"),
        ({"train.lr": {"choices": []}}, r"defaults.tune.space.train.lr.choices: found \[\]; tuple should have"),
        (
            {"train.lr": {"low": 0.1, "top": 0.2}},
            r"space.train.lr.top: unknown key; known keys here: choices, low, high, log",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    changed_config: Callable[[str, object], Config], space: dict[str, object], told: str
) -> None:
    with pytest.raises(UnrollError, match=told):
        changed_config("defaults.tune.space", space)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sentiment.model.layers", 2, "sentiment.pretrain: needs a model.embedding, and model.layers: 1 or"),
        (
            "sentiment.pretrain.corpus",
            "novels",
            "sentiment.pretrain.corpus: found novels, expected one of corpora:",
        ),
        ("sentiment.pretrain.cells", ["LSTM"], "sentiment.pretrain.cells: found LSTM, expected some of cells: GRU"),
        ("pretrained", ["spooky"], "pretrained: found spooky, expected some of tasks: sentiment, surnames"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(path: str, value: object, message: str) -> None:
    values = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    values |= {"pretrained": ["sentiment"], "cells": ["GRU"]}
    parse_config(values)
    *sections, key = path.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    with pytest.raises(UnrollError) as caught:
        parse_config(values)
    assert message in str(caught.value)
