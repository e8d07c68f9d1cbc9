# SPDX-License-Identifier: Apache-2.0
"""Metrics of many futures against hand-known answers, and the whole table on made-up people."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_flow_models import RECIPE, TINY
from models import write_weights
from scipy.stats import gaussian_kde
from walkers import walkers

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.body_frame import body_frame
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.evaluation.futures.metrics import (
    cumulative_motion_distance,
    displacement_errors,
    kernel_log_density,
    motion_per_frame,
    pairwise_diversity,
    similar_starts,
)
from motion_predictor_ros.evaluation.futures.samplers import (
    ComparedModels,
    SampledFutures,
    gaussian_residual_sampler,
    load_samplers,
)
from motion_predictor_ros.evaluation.futures.stochastic import evaluate_stochastic, make_case
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.training.baselines.futures import ConditionalVAETask, LatentMixtureTask
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.cache_flow import FutureData, train_cache_flow
from motion_predictor_ros.training.loop import train

CPU = torch.device('cpu')


def test_diversity_is_the_mean_distance_of_two_point_predictors() -> None:
    samples = torch.zeros(1, 3, 2, 1)
    samples[0, 1] = 3.0
    distance = 3.0 * math.sqrt(2)  # two frames as one vector; of three pairs two differ
    assert float(pairwise_diversity(samples)) == pytest.approx(2 / 3 * distance)
    assert float(pairwise_diversity(samples[:, :1])) == 0.0


def test_errors_are_those_of_the_best_guess_for_each_truth() -> None:
    samples = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0], [1.0, 0.0]]])
    truths = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [1.0, 0.0]]])
    average, final = displacement_errors(samples, truths)
    torch.testing.assert_close(average, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(final, torch.tensor([0.0, 0.0]))  # another predict ends right


def test_windows_are_similar_to_themselves_and_to_close_poses() -> None:
    like = similar_starts(torch.tensor([[0.0], [0.3], [0.9]]), 0.5)
    assert like.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_motion_counts_from_every_frame_on() -> None:
    poses = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
    assert motion_per_frame(poses).tolist() == [1.0, 2.0]
    found = cumulative_motion_distance(torch.tensor([1.0, 2.0]), torch.tensor(0.5))
    assert float(found) == pytest.approx(0.5 + (0.5 + 1.5))


def test_kernel_density_is_that_of_scipy() -> None:
    """Where dimensions are independent, scaling each is what scipy's covariance does."""
    random = np.random.default_rng(0)
    samples = random.normal(size=(4000, 2)) * [1.0, 5.0] + 3.0
    points = samples[:50] + 0.1
    theirs = gaussian_kde(samples.T).logpdf(points.T)
    ours = kernel_log_density(torch.from_numpy(samples), torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.01)
    wrong = kernel_log_density(torch.from_numpy(samples[:40]), torch.from_numpy(points)).numpy()
    assert np.abs(wrong - theirs).max() > 0.1


def test_gaussian_residuals_have_the_moments_of_held_out_people() -> None:
    random = np.random.default_rng(0)
    names = walkers().joint_names
    still = np.repeat(random.normal(size=(400, 1, 18, 3)), 5, axis=1)
    drift = np.cumsum(random.normal(size=(400, 2, 1, 1)) * 0.1 + 0.3, axis=1)
    windows = still.copy()
    windows[:, 3:] += drift * np.array([0.0, 0.0, 1.0])  # upwards, whatever the heading

    def repeat(observed: np.ndarray, future: int) -> np.ndarray:
        return np.repeat(observed[:, -1:], future, axis=1)

    draw = gaussian_residual_sampler(repeat, body_frame(names), windows, 3, 2000, 0)
    answer = draw(windows[:1, :3])
    rise = answer.positions[0, :, 1, 0, 2] - windows[0, 2, 0, 2]
    assert rise.mean() == pytest.approx(0.6, abs=0.02)
    assert rise.std() == pytest.approx(math.sqrt(0.02), rel=0.15)


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained CacheFlow with its cache, and its rivals, on two people who walk."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp('field')
    weights = train_cache_flow('tiny', RECIPE, walkers(), out / 'flow', CPU)
    trained = load_cache_flow(str(weights), CPU)
    build_cache(trained, walkers(), 300).save(out / 'cache.safetensors')
    data = FutureData(RECIPE, walkers(), CPU)
    mixture = LatentMixtureTask('tiny', RECIPE, data, trained)
    cvae = ConditionalVAETask('tiny', RECIPE, data)
    found = {
        'weights': weights,
        'cache': out / 'cache.safetensors',
        'mixture': train(mixture, RECIPE.flow, out / 'mixture'),
        'cvae': train(cvae, RECIPE.behaviour, out / 'cvae'),
        'motion_deq': write_weights(out / 'motion_deq.safetensors'),
    }
    found['data'] = out / 'data.npz'
    recordings = walkers()
    meta = {
        'joint_names': recordings.joint_names,
        'fps': 50,
        'clips': {c.key: {'subject': c.subject, 'split': c.split} for c in recordings.clips},
    }
    arrays = {c.key: recordings.positions[c.start : c.start + 200] for c in recordings.clips}
    np.savez(found['data'], __meta__=np.array(json.dumps(meta)), **arrays)
    return found


def config_of(files: dict[str, Path]) -> DensityConfig:
    return DensityConfig(
        weights=str(files['weights']), cache=str(files['cache']), device='cpu', futures=10
    )


class Oracle:
    """Knows the future, once; its other samples are its past."""

    def __init__(self, windows: np.ndarray) -> None:
        self._windows = windows

    def __call__(self, observed: np.ndarray) -> SampledFutures:
        rows = [
            np.flatnonzero((self._windows[:, :5] == each).all((1, 2, 3)))[0] for each in observed
        ]
        truth = self._windows[rows, 5:]
        frozen = np.repeat(observed[:, -1:], truth.shape[1], axis=1)
        return SampledFutures(np.stack([frozen, truth, frozen], axis=1))


def test_a_perfect_predictor_has_no_error(files: dict[str, Path]) -> None:
    torch.set_default_dtype(torch.float32)
    trained = load_cache_flow(str(files['weights']), CPU)
    case = make_case(trained, walkers(), similar_m=0.01)
    report = evaluate_stochastic(case, trained, {'oracle': Oracle(case.windows)})
    found = report['oracle']
    for errors in (found, found['root_included']):
        for name in ('ade_m', 'fde_m', 'mmade_m', 'mmfde_m'):
            assert errors[name] < 1e-4, name
        assert errors['apd'] > 1e-2
    groups = report['by_subject']
    assert sum(group['windows'] for group in groups.values()) == report['windows']
    for group in groups.values():
        assert group['oracle']['ade_m'] < 1e-4
    assert report['multimodal_windows'] == 0 and report['similar_futures_mean'] == 1.0
    wide = make_case(trained, walkers(), similar_m=100.0)
    again = evaluate_stochastic(wide, trained, {'oracle': Oracle(case.windows)})
    assert again['oracle']['ade_m'] < 1e-4 < again['oracle']['mmade_m']
    assert again['multimodal_windows'] == again['windows']


def test_samples_are_moved_onto_the_prediction_unless_they_are_to_stay(
    files: dict[str, Path],
) -> None:
    torch.set_default_dtype(torch.float32)
    trained = load_cache_flow(str(files['weights']), CPU)
    case = make_case(trained, walkers(), similar_m=0.01)
    case = dataclasses.replace(case, predicted=case.windows[:, TINY.past :] + 1.0)
    oracle = Oracle(case.windows)
    stays = lambda observed: dataclasses.replace(oracle(observed), recentred=False)  # noqa: E731
    report = evaluate_stochastic(case, trained, {'moved': oracle, 'stays': stays})
    assert report['stays']['root_included']['ade_m'] < 1e-4
    assert report['moved']['root_included']['ade_m'] > 0.1


def test_recordings_without_validation_clips_are_judged_without_gaussians(
    files: dict[str, Path],
) -> None:
    rivals = ComparedModels(latent_mixture=files['mixture'])
    judged = walkers().select(lambda clip: clip.split != 'val')
    assert judged.clips
    _, whole = load_samplers(config_of(files), rivals, walkers())
    _, samplers = load_samplers(config_of(files), rivals, judged)
    assert whole.keys() - samplers.keys() == {'constant_velocity_gaussian'}
    assert 'latent_gmm' in samplers


def test_the_table_has_all_contenders_and_json_is_alone_on_stdout(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    options = ['--checkpoint', 'weights', '--cache', 'cache', '--latent-mixture', 'mixture']
    options += ['--conditional-vae', 'cvae', '--data', 'data']
    options = [str(files.get(each, each)) for each in options]
    small = ['--split', 'val', '--samples', '10', '--device', 'cpu', '--motion-deq', '']
    assert main(['evaluate', 'stochastic', *options, *small, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    names = ('cache_flow', 'cache_flow_without_precompute', 'latent_gmm', 'cvae')
    for name in (*names, 'constant_velocity_gaussian'):
        figures = report[name]
        assert {'apd', 'ade_m', 'fde_m', 'mmade_m', 'mmfde_m', 'cmd'} <= figures.keys()
        assert math.isfinite(figures['log_prob_per_dim']) and figures['inference_ms'] > 0
        assert figures['root_included']['ade_m'] > 0
    assert math.isfinite(report['kde_latent']['log_prob_per_dim'])
    assert math.isfinite(report['kde_motion']['log_prob_per_motion_dim'])
    assert 1.0 <= report['cache_flow']['effective_sample_size'] <= 300.0
    (kind,) = report['by_kind'].values()  # one kind: its figures are those of all
    assert kind['cvae']['ade_m'] == pytest.approx(report['cvae']['ade_m'])
    assert main(['evaluate', 'stochastic', *options, *small]) == 0
    assert 'root included' in capsys.readouterr().out


def test_weights_of_another_shape_are_refused(files: dict[str, Path]) -> None:
    torch.set_default_dtype(torch.float32)
    # MotionDEQ sees 25 frames, CacheFlow gives 5.
    compared = ComparedModels(motion_deq=load_motion_deq(str(files['motion_deq']), CPU))
    with pytest.raises(CheckpointError, match='other joints, frames'):
        load_samplers(config_of(files), compared, walkers())
    with pytest.raises(CheckpointError, match='conditional_vae'):
        compared = ComparedModels(conditional_vae=files['mixture'])
        load_samplers(config_of(files), compared, walkers())


def test_a_mixture_over_other_latents_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    recipe = dataclasses.replace(RECIPE, model=dataclasses.replace(TINY, width=20))
    other = train_cache_flow('other', recipe, walkers(), tmp_path / 'flow', CPU)
    trained = load_cache_flow(str(other), CPU)
    build_cache(trained, walkers(), 100).save(tmp_path / 'cache.safetensors')
    files = {**files, 'weights': other, 'cache': tmp_path / 'cache.safetensors'}
    with pytest.raises(CheckpointError, match='latents of'):
        compared = ComparedModels(latent_mixture=files['mixture'])
        load_samplers(config_of(files), compared, walkers())


def test_commands_train_build_and_refuse(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    recipe = tmp_path / 'tiny.yaml'
    part = '{steps: 2, batch: 4, validate_every: 2}'
    model = '{past: 5, future: 6, hidden: 8, behaviour: 8, latent: 4, width: 8}'
    recipe.write_text(
        f'model: {model}\nbehaviour: {part}\ndecoder: {part}\nflow: {part}\n', encoding='utf-8'
    )
    data = ['--data', str(files['data']), '--device', 'cpu']
    out = tmp_path / 'run'
    training = ['--recipe', str(recipe), *data, '--out']
    assert main(['train', 'cache-flow', *training, str(out), '--minutes', '5']) == 0
    weights, cache = str(out / 'best.safetensors'), str(tmp_path / 'cache.safetensors')
    build = ['build-cache', '--checkpoint', weights, *data, '--out', cache, '--size', '20']
    assert main(build) == 0
    assert main(['train', 'conditional-vae', *training, str(tmp_path / 'cvae')]) == 0
    mixture = ['latent-mixture', *training, str(tmp_path / 'mixture'), '--checkpoint', weights]
    assert main(['train', *mixture]) == 0
    capsys.readouterr()
    wrong = ['--checkpoint', weights, '--cache', str(files['cache']), *data]
    assert main(['evaluate', 'stochastic', *wrong]) == 2
    assert 'rebuild it' in capsys.readouterr().err
