# SPDX-License-Identifier: Apache-2.0
"""Training CacheFlow: every part learns, a stopped run goes on where it was, caches fill."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from cache_flow_models import RECIPE
from torch import Tensor, nn
from walkers import walkers

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.density.cache_flow.cache import load_cache
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.density.cache_flow.model import MODES
from motion_predictor_ros.errors import CheckpointError, ConfigError, DataError
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.cache_flow import (
    DecoderTask,
    FlowTask,
    FutureData,
    batch_generator,
    train_cache_flow,
    vary_latent,
    vary_past,
)
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.recipe import (
    CacheFlowRecipe,
    load_cache_flow_recipe,
)

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


def column(folder: Path, name: str) -> list[float]:
    with (folder / 'losses.csv').open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('run')
    torch.set_default_dtype(torch.float32)
    assert train_cache_flow('tiny', RECIPE, walkers(), out, CPU) == out / 'best.safetensors'
    return out


def test_every_part_is_trained(whole_run: Path) -> None:
    # The one who is held out does something else: only the one who trains is learnt.
    for part in ('behaviour', 'decoder'):
        first, second = column(whole_run / part, 'train_error')
        assert second < 0.95 * first, part
    first, second = column(whole_run, 'train_log_prob')
    assert second > first


def test_a_stopped_run_ends_where_a_whole_one_does(whole_run: Path, tmp_path: Path) -> None:
    for _ in range(3):  # one step, then as far as no time allows, then to the end
        best = train_cache_flow('tiny', RECIPE, walkers(), tmp_path, CPU, minutes=0.0, resume=True)
        assert best.parent.name == 'behaviour'
    train_cache_flow('tiny', RECIPE, walkers(), tmp_path, CPU, resume=True)
    for part, kind in (('behaviour', '_behaviour'), ('decoder', '_decoder'), ('.', '')):
        ours, theirs = (
            load_checkpoint(folder / part / 'last.safetensors', f'cache_flow{kind}').tensors
            for folder in (tmp_path, whole_run)
        )
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], atol=0, rtol=0, msg=name)


@pytest.mark.parametrize('mode', MODES)
def test_every_mode_trains_flow_and_mixture_and_nothing_else(
    whole_run: Path, tmp_path: Path, mode: str
) -> None:
    recipe = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, mode=mode))
    data = FutureData(recipe, walkers(), CPU)
    task = FlowTask('tiny', recipe, data, whole_run / 'decoder/best.safetensors')
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    train(task, recipe.flow, tmp_path)
    changed = {
        name.split('.')[0]
        for name, value in task.module.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {'flow', 'mixture'}
    assert load_cache_flow(str(tmp_path / 'best.safetensors'), CPU).module.config.mode == mode


def test_the_second_part_trains_encoder_and_decoder(whole_run: Path) -> None:
    before = load_checkpoint(whole_run / 'behaviour/last.safetensors', 'cache_flow_behaviour')
    after = load_checkpoint(whole_run / 'decoder/last.safetensors', 'cache_flow_decoder')
    parts = {
        name.split('.')[1]
        for name, value in after.tensors.items()
        if name.startswith('vae.') and not torch.equal(value, before.tensors[name])
    }
    assert parts == {'encoder', 'posterior', 'start', 'decoder', 'offset'}


def test_observations_and_latents_vary_by_the_recipe() -> None:
    varied = dataclasses.replace(RECIPE.variety, noise_m=0.02, latent=0.3)
    recipe = dataclasses.replace(RECIPE, variety=varied)
    x, past = torch.ones(2000, 4), torch.ones(500, 5, 18, 3)
    assert float((vary_latent(x, recipe, batch_generator(1, 0)) - x).std()) == pytest.approx(
        0.3, rel=0.05
    )
    noise = vary_past(past, recipe, batch_generator(1, 0)) - past
    assert float(noise[:, 0].std()) == pytest.approx(0.02, rel=0.05)
    assert float(noise.diff(dim=1).std()) < 0.01  # slow, or velocities would drown
    still = dataclasses.replace(RECIPE, variety=dataclasses.replace(varied, latent=0.0))
    assert torch.equal(vary_latent(x, still, batch_generator(1, 0)), x)


def test_a_flow_that_outruns_its_integrator_is_not_chosen(whole_run: Path) -> None:
    data = FutureData(RECIPE, walkers(), CPU)
    task = FlowTask('tiny', RECIPE, data, whole_run / 'decoder/best.safetensors')
    task.module.flow.velocity = Sink(0.5)
    calm, _ = task.validate()
    assert abs(calm['log_prob_per_dim'] - calm['log_prob_per_dim_finely']) < 1e-3
    assert calm['score'] == pytest.approx(-calm['log_prob_per_dim_finely'], abs=0.01)
    task.module.flow.velocity = Sink(40.0)
    wild, _ = task.validate()
    assert abs(wild['log_prob_per_dim'] - wild['log_prob_per_dim_finely']) > 0.1
    assert wild['score'] > max(-wild['log_prob_per_dim'], -wild['log_prob_per_dim_finely'])


class Sink(nn.Module):
    """A velocity so steep that coarse steps miss what it does to volumes."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.steepness = steepness

    def forward(self, y: Tensor, time: Tensor) -> Tensor:
        return torch.sin(self.steepness * y)

    def with_trace(self, y: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return self(y, time), (self.steepness * torch.cos(self.steepness * y)).sum(1)


def test_one_decoder_serves_flows_of_any_mode(whole_run: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(RECIPE.model, mode='two-stage', width=24)
    data = FutureData(dataclasses.replace(RECIPE, model=other), walkers(), CPU)
    behaviour = whole_run / 'behaviour/best.safetensors'
    DecoderTask('tiny', dataclasses.replace(RECIPE, model=other), data, behaviour)
    with pytest.raises(CheckpointError, match='expected'):
        FlowTask('tiny', RECIPE, data, behaviour)


def test_a_cache_names_the_clips_of_its_futures(whole_run: Path, tmp_path: Path) -> None:
    trained = load_cache_flow(str(whole_run / 'best.safetensors'), CPU)
    cache = build_cache(trained, walkers(), 120)
    assert len(cache) == 120 and cache.figures['clips'] == ['0']  # the one who trains
    length, past, future = 200, RECIPE.model.past, RECIPE.model.future
    frames = cache.frames.double()
    assert float(frames.min()) >= 1.5 * (past - 1)
    assert float(frames.max()) <= length - 1.5 * future
    z, log_det = trained.module.flow.pull(cache.x)
    torch.testing.assert_close(cache.z, z)
    torch.testing.assert_close(cache.log_det, log_det)
    cache.save(tmp_path / 'cache.safetensors')
    assert len(load_cache(str(tmp_path / 'cache.safetensors'), trained)) == 120


def test_a_smaller_cache_is_the_beginning_of_a_larger_one(whole_run: Path) -> None:
    trained = load_cache_flow(str(whole_run / 'best.safetensors'), CPU)
    small, large = (build_cache(trained, walkers(), size) for size in (50, 1100))
    torch.testing.assert_close(small.z, large.z[:50])
    torch.testing.assert_close(small.log_rho, large.log_rho[:50])


def test_what_does_not_fit_is_refused(whole_run: Path) -> None:
    strangers = dataclasses.replace(walkers(), joint_names=tuple('abcdefghijklmnopqr'))
    with pytest.raises(DataError, match='joints'):
        FutureData(RECIPE, strangers, CPU)
    short = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, joints=17))
    with pytest.raises(DataError, match='17 joints'):
        FutureData(short, walkers(), CPU)
    trained = load_cache_flow(str(whole_run / 'best.safetensors'), CPU)
    with pytest.raises(CheckpointError, match='no recipe'):
        build_cache(dataclasses.replace(trained, training={}), walkers(), 10)


def test_entries_of_older_recipes_in_a_weight_file_do_not_matter(whole_run: Path) -> None:
    trained = load_cache_flow(str(whole_run / 'best.safetensors'), CPU)
    recipe = trained.training['recipe']
    older = {**recipe, 'subjects': {}, 'losses': {**recipe['losses'], 'adversary': 0.05}}
    training = {**trained.training, 'recipe': older}
    cache = build_cache(dataclasses.replace(trained, training=training), walkers(), 10)
    torch.testing.assert_close(cache.z, build_cache(trained, walkers(), 10).z)
    wrong = {**trained.training, 'recipe': {**recipe, 'layout': 5}}  # control: known ones do
    with pytest.raises(CheckpointError, match='layout'):
        build_cache(dataclasses.replace(trained, training=wrong), walkers(), 10)


@pytest.mark.parametrize('name', ['body_2s', 'body_2s_rivals'])
def test_shipped_recipes_predict_two_seconds_of_the_common_skeleton(name: str) -> None:
    found, recipe = load_cache_flow_recipe(name)
    model = recipe.model
    assert found == name and model.mode in MODES
    assert (model.joints, model.past, model.future * model.period_s) == (18, 25, 2.0)


def test_unknown_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'typo.yaml'
    for text, said in (('flow: {stepz: 3}', 'stepz'), ('[1, 2', 'YAML'), ('7', 'mapping')):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_cache_flow_recipe(str(path))
    assert isinstance(load_cache_flow_recipe('body_2s')[1], CacheFlowRecipe)
