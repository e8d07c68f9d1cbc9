# SPDX-License-Identifier: Apache-2.0
"""Shipped recipes: they hold together, stay small, and say what the paper says."""

import dataclasses

import numpy as np
import pytest
import yaml
from walkers import RECIPE, walkers

from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.loop import rate_share
from motion_predictor_ros.training.recipe import (
    MotionDEQRecipe,
    ScheduleConfig,
    count_windows,
    in_steps,
    load_recipe,
    training_clips,
)

SHIPPED = sorted(
    path.stem
    for path in share_file('config/recipes').glob('*.yaml')
    if 'equilibrium' in yaml.safe_load(path.read_text())  # others are of other models
)
LIMIT = 300_000


def parameters(config: MotionDEQConfig) -> int:
    return sum(each.numel() for each in MotionDEQ(config).parameters())


@pytest.mark.parametrize('name', SHIPPED)
def test_every_shipped_model_has_fewer_parameters_than_the_paper_says(name: str) -> None:
    recipe = load_recipe(name)[1]
    assert parameters(recipe.model) < LIMIT
    layout = SkeletonLayout.load(recipe.layout)
    assert len(layout.joint_names) == recipe.model.joints


def test_a_wider_model_would_be_too_large() -> None:
    model = load_recipe('body_1s')[1].model
    assert parameters(dataclasses.replace(model, channels=160)) > LIMIT
    assert {'cmu', 'body_1s'} <= set(SHIPPED)


def test_the_rate_falls_by_a_fiftieth_every_second_epoch() -> None:
    """100 epochs of 30 steps: 0.98 to the number of whole pairs of epochs gone."""
    schedule = ScheduleConfig(steps=3000, decay='exponential', decay_factor=0.98, decays=50)
    rates = [schedule.learning_rate * rate_share(schedule, index) for index in range(3000)]
    expected = 5e-4 * 0.98 ** (np.arange(3000) // 60)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    cosine = dataclasses.replace(schedule, decay='cosine')
    assert cosine.learning_rate * rate_share(cosine, 2999) < 0.1 * rates[-1]


def test_a_warm_up_comes_before_the_first_fall() -> None:
    schedule = ScheduleConfig(
        steps=110, warmup_steps=10, learning_rate=1.0, decay='exponential', decays=4
    )
    rates = [schedule.learning_rate * rate_share(schedule, index) for index in range(110)]
    assert rates[4] == pytest.approx(0.5)
    assert rates[9:35] == [1.0] * 26 and rates[35] == 0.98 and rates[-1] == 0.98**3


def clips(fps: float, **lengths: int) -> Recordings:
    pieces = [
        Piece(name, name, name.rstrip('0123456789'), np.zeros((length, 1, 3)))
        for name, length in lengths.items()
    ]
    return join_clips(('hip',), fps, pieces, ())


def test_windows_are_counted_on_the_model_clock() -> None:
    """Ten frames hold six windows of five; clips that are too short hold none."""
    assert count_windows(clips(25.0, train1=10, train2=5, train3=4), 5, 0.04) == 6 + 1
    assert count_windows(clips(50.0, train1=19, train2=18), 5, 0.04) == 6 + 5
    assert count_windows(clips(30.0, train1=10), 5, 0.0333333333) == 6


def test_epochs_become_steps_that_see_every_training_window_so_often() -> None:
    model = MotionDEQConfig(joints=2, past=3, future=2, period_s=0.04)
    schedule = ScheduleConfig(epochs=100, batch=4, decay='exponential')
    recipe = MotionDEQRecipe(model=model, schedule=schedule)
    recordings = clips(25.0, train1=10, train2=9, val1=500)
    found = in_steps(recipe, recordings).schedule
    assert found == dataclasses.replace(schedule, steps=275)  # 100 x (6 + 5) / 4
    more = clips(25.0, train1=11, train2=9)
    assert in_steps(recipe, more).schedule.steps == 300
    with pytest.raises(DataError, match='no training clip holds a window of 5 frames'):
        in_steps(recipe, clips(25.0, train1=4, val1=50))


def test_a_recipe_that_counts_steps_is_left_alone() -> None:
    assert in_steps(RECIPE, walkers()) is RECIPE


def test_an_unknown_decay_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp('recipe') / 'typo.yaml'
    path.write_text('schedule: {decay: linear}')
    with pytest.raises(ConfigError, match=r"schedule\.decay must be one of \['cosine'"):
        load_recipe(str(path))


def test_test_clips_never_train_and_held_out_ones_only_on_request() -> None:
    made = walkers()
    tested = dataclasses.replace(made.clips[0], split='test')
    recordings = dataclasses.replace(made, clips=(*made.clips, tested))
    for held_out_too, expected in ((False, {'train'}), (True, {'train', 'val'})):
        learnt = training_clips(MotionDEQRecipe(held_out_too=held_out_too), recordings)
        assert {clip.split for clip in learnt.clips} == expected
