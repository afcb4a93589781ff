from itertools import chain

import pytest

from unroll.core.settings import Config
from unroll.models.span_classifier import CELLS
from unroll.training.lessons import teach_all


@pytest.mark.parametrize("cell", CELLS)
def test_every_lesson_goes_from_noise_to_ihello(cell: str, config: Config) -> None:
    said = list(chain.from_iterable(teach_all(cell, config.hello)))
    for lesson, epochs in (("step_by_step", 100), ("unfolded", 100), ("embedding", 50)):
        words = [word for word in said if word.lesson == lesson]
        assert [word.epoch for word in words] == list(range(1, epochs + 1))
        assert words[0].text != "ihello"
        assert words[-1].text == "ihello"
        assert words[-1].loss < words[0].loss
        assert len({word.text for word in words}) > 2


def test_an_rnn_reaches_the_courses_last_losses(config: Config) -> None:
    last = {epochs[-1].lesson: epochs[-1].loss for epochs in teach_all("RNN", config.hello)}
    assert last["step_by_step"] <= 2.76
    assert last["unfolded"] <= 0.513
    assert last["embedding"] <= 0.025


def test_the_unfolded_lesson_is_the_first_one_averaged_over_steps(config: Config) -> None:
    said = list(chain.from_iterable(teach_all("RNN", config.hello)))
    sums = [word.loss for word in said if word.lesson == "step_by_step"]
    means = [word.loss for word in said if word.lesson == "unfolded"]
    # Adam does not see the factor of six, so both go the same way.
    for total, mean in list(zip(sums, means, strict=True))[:5]:
        assert total / 6 == pytest.approx(mean, abs=0.01)
