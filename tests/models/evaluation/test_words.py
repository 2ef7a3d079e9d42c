"""Counting wrong words, and the passages they are counted in."""

import numpy as np
import pytest

from models.evaluation import wer
from models.evaluation.testset import SNRS_DB


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("try again fail again", "try again fail again", 0),
        ("try again fail again", "try fail again", 1),
        ("try again fail again", "try again and fail again", 1),
        ("try again fail again", "cry again fail a gain", 3),
        ("try again", "", 2),
        ("", "try", 1),
    ],
)
def test_word_errors_are_the_fewest_edits_between_two_texts(said, heard, errors):
    assert wer.word_errors(said.split(), heard.split()) == errors


def test_case_punctuation_hyphens_and_titles_are_no_errors():
    assert wer.normalised("Mr. Dashwood: an ill-disposed man — it’s so!") == [
        "mister", "dashwood", "an", "ill", "disposed", "man", "it's", "so",
    ]  # fmt: skip


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_passage_is_heard_at_every_ratio_and_clean_under_a_name_of_its_own(rate):
    clips = [plan[0] for plan in wer.plans(rate)]
    assert len({c.id for c in clips}) == len(clips)
    for passage in wer.PASSAGES:
        assert {c.snr_db for c in clips if c.text == passage.text} == {*SNRS_DB, None}


def test_features_have_the_shape_the_recogniser_takes_and_a_silent_tail_is_flat():
    tone = np.sin(np.arange(wer.RATE) * 0.3).astype(np.float32)
    found = wer.features(tone)
    assert found.shape == (80, wer.WINDOW // 160)
    assert found.dtype == np.float32
    assert np.ptp(found[:, 200:]) == 0
    assert found[:, :90].max() == pytest.approx(found[:, 200:].max() + 2.0)  # 8 decades of power, scaled by 4
