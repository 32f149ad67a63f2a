"""What a log hears of a long piece of work."""

import logging

import pytest

from trainer.progress import LoggedProgress


def test_the_log_hears_each_line_and_now_and_then_how_far_the_work_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    caplog.set_level(logging.INFO)
    progress = LoggedProgress(every_s=30, now=lambda: next(clock))

    progress.begin("Features", 100)
    progress.advance(32)
    progress.advance(32)
    progress.say("epoch 1")
    progress.advance(32)

    assert caplog.messages == ["Features: 64 of 100", "epoch 1"]
