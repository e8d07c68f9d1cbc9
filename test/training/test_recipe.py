# SPDX-License-Identifier: Apache-2.0
"""Shipped recipes: they hold together, stay small, and say what the paper says."""

import dataclasses

import pytest
import yaml
from walkers import walkers

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.recipe import (
    MotionDEQRecipe,
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
