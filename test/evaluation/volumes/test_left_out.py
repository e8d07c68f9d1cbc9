# SPDX-License-Identifier: Apache-2.0
"""Each subject is judged by the radius of the others, never by their own."""

import numpy as np
import pytest

from motion_predictor_ros.evaluation.volumes.left_out import left_out


def test_a_subject_who_differs_is_covered_by_others_as_seldom_as_counted() -> None:
    low, high = list(np.linspace(0.1, 1.0, 10)), list(np.linspace(2.1, 3.0, 10))
    scores = {'ann': low, 'ben': low, 'eve': high}
    found = left_out(scores, scores, 0.5)
    # Of 20 scores the eleventh: of eve's low ones and the others' high ones, or of low ones twice.
    assert found == pytest.approx({'ann': 1.0, 'ben': 1.0, 'eve': 0.0})
    together = sorted([*low, *low, *high])
    assert np.mean(np.array(high) <= together[-1]) == 1.0  # with her own scores she would be


def test_people_who_are_alike_are_covered_as_often_as_the_level() -> None:
    random = np.random.default_rng(0)
    scores = {f'{each}': list(random.uniform(size=200)) for each in range(10)}
    found = left_out(scores, scores, 0.9)
    assert np.mean(list(found.values())) == pytest.approx(0.9, abs=0.02)


def test_a_level_that_the_others_cannot_certify_is_left_out() -> None:
    scores = {'ann': [1.0] * 10, 'ben': [1.0] * 8}
    assert left_out(scores, scores, 0.9) == {}
    assert set(left_out(scores, scores, 0.8)) == {'ann', 'ben'}
