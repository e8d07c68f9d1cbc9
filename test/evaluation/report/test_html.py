# SPDX-License-Identifier: Apache-2.0
"""The page of a scored bag: complete in itself, true to what was replayed, safe with any id."""

import base64
import dataclasses
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import write_weights
from scenes import stream
from volume_replays import told
from volume_scenes import SHAPE

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.evaluation.replay.replay import Case, Replay, replay, score
from motion_predictor_ros.evaluation.report import replay_data
from motion_predictor_ros.evaluation.report.html import write_html
from motion_predictor_ros.evaluation.report.replay_data import UNKNOWN, pack_replay, scene_times_ms
from motion_predictor_ros.evaluation.report.tables import bag_report, coverage, joint_errors_mm
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.scoring.track import Track
from motion_predictor_ros.skeleton.frame import SkeletonFrame, Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout

LAYOUT = SkeletonLayout.load('body18')
HORIZONS_S = 0.04 * np.arange(1, 26)
HOSTILE = '</script><img onerror=x>$x_{"'
LOADS = re.compile(
    r'https?://|\bsrc=|@import|\bfetch\b|XMLHttpRequest|WebSocket|\bimport\b|'
    r'<link (?!rel="icon" href="data:,")|url\((?!#)'
)


@pytest.fixture(scope='module')
def played(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    weights = write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    pipeline = Pipeline.load(PipelineConfig(prediction=prediction))
    return replay(stream(0.0, 2.5, 'ann', HOSTILE, rate_hz=20.0), pipeline)


def page_of(played: Replay, path: Path) -> str:
    cases = score(played)
    report = bag_report(played, cases, (SHAPE, 3))
    write_html(report, played, cases, LAYOUT, 'z', '<walk>', path)
    return path.read_text(encoding='utf-8')


def made_up(people: int, seconds: float, epochs: int = 1) -> Replay:
    """A replay of people who are everywhere at random, predicted at random."""
    random = np.random.default_rng(3)
    scenes, tracks = [], {}
    for epoch in range(epochs):
        for step in range(round(30 * seconds)):
            stamp_ns, answers = round(step / 30 * 1e9), []
            for person in map(str, range(people)):
                pose = random.uniform(-8.0, 8.0, size=(18, 3))
                frame = SkeletonFrame(person, stamp_ns, pose, np.ones(18, np.float32))
                tracks.setdefault((epoch, person), Track()).frames.append(frame)
                future = random.uniform(-8.0, 8.0, size=(25, 18, 3))
                answers.append(Prediction(person, stamp_ns, Validity.OK, positions=future))
            names = LAYOUT.joint_names
            scene = ScenePrediction(stamp_ns, 'world', 'm', names, HORIZONS_S, tuple(answers))
            scenes.append((epoch, scene))
    return Replay(tuple(scenes), tracks, np.ones(len(scenes)), len(scenes), Counter())


def unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def points(packed: dict[str, Any], text: str) -> np.ndarray:
    """Read coordinates as the page does [..., joint, xyz] in metres, NaN where unknown."""
    steps = unpack(text, '<i2').reshape(-1, 18, 3)
    metres = np.array(packed['origin_m']) + packed['step_m'] * steps
    return np.where(steps == UNKNOWN, np.nan, metres)


class Tags(HTMLParser):
    """Counts elements as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1


def test_the_page_asks_no_host_for_anything(played: Replay, tmp_path: Path) -> None:
    assert LOADS.findall(page_of(played, tmp_path / 'report.html')) == []


@pytest.mark.parametrize(
    'bad',
    [
        '<script src="x.js">',
        '@import "x.css"',
        '<a href="https://x.org">',
        'fetch("/x")',
        'url(x.png)',
        '<link rel="stylesheet" href="x.css">',
    ],
)
def test_a_load_is_seen(bad: str) -> None:
    assert LOADS.search(bad)


def test_the_page_holds_replay_charts_and_tables(played: Replay, tmp_path: Path) -> None:
    page = page_of(played, tmp_path / 'report.html')
    tags = Tags()
    tags.feed(page)
    assert tags.seen['canvas'] == 1 and tags.seen['svg'] == 5 and tags.seen['table'] == 4
    assert re.search('<td>prediction, when it runs</td><td>[0-9.]+</td>', page)
    for heading in ('Replay', 'Error by horizon', 'covariances', 'Latency', 'Solver', 'joint'):
        assert re.search(f'<h2>[^<]*{heading}', page), heading
    assert page.count('<td>l_wrist</td>') == 1


def test_volumes_add_their_table_and_their_calibration_curve(
    played: Replay, tmp_path: Path
) -> None:
    volumes = dataclasses.replace(played, volumes=told(played))
    tags = Tags()
    page = page_of(volumes, tmp_path / 'report.html')
    tags.feed(page)
    assert tags.seen['svg'] == 6 and tags.seen['table'] == 5
    assert '<th>stayed inside</th>' in page and 'Reliability of voxel probabilities' in page
    assert LOADS.findall(page) == []


def test_an_id_from_outside_stays_text(played: Replay, tmp_path: Path) -> None:
    page = page_of(played, tmp_path / 'report.html')
    tags = Tags()
    tags.feed(page)
    assert tags.seen['script'] == 2 and tags.seen['img'] == 0
    assert '&lt;img onerror=x&gt;$x_' in page and '<title>Motion prediction: &lt;walk' in page


def test_the_same_replay_gives_the_same_page(played: Replay, tmp_path: Path) -> None:
    first = page_of(played, tmp_path / 'a.html')
    assert first == page_of(played, tmp_path / 'b.html')


def test_packed_positions_are_exact_to_half_a_step(played: Replay) -> None:
    packed = pack_replay(played, LAYOUT, 'z')
    assert packed['step_m'] == 0.001 and packed['every'] == 1
    for person in packed['people']:
        observed = points(packed, person['observed'])
        seen = [frame.positions for frame in played.tracks[0, person['id']].frames]
        np.testing.assert_allclose(observed, seen, atol=0.00051)
        ghosts = points(packed, person['ghosts']).reshape(-1, 5, 18, 3)
        rows = zip(ghosts, unpack(person['scenes'], '<i4'), strict=True)
        for row, place in rows:
            scene = played.scenes[place][1]
            answer = next(each for each in scene.people if each.person_id == person['id'])
            if answer.positions is None:
                assert np.isnan(row).all()
            else:
                np.testing.assert_allclose(row, answer.positions[4::5], atol=0.00051)
        assert {0, 1} <= set(unpack(person['validity'], 'u1'))
    assert packed['ghosts_s'] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_joint_out_of_sight_is_unknown() -> None:
    unseen = made_up(1, 0.1)
    unseen.tracks[0, '0'].frames[1].positions[4] = np.nan
    packed = pack_replay(unseen, LAYOUT, 'z')
    observed = points(packed, packed['people'][0]['observed'])
    unknown = np.zeros((3, 18), dtype=bool)
    unknown[1, 4] = True
    np.testing.assert_array_equal(np.isnan(observed), np.repeat(unknown[..., None], 3, axis=-1))


def test_a_wide_scene_is_packed_in_larger_steps() -> None:
    wide = made_up(1, 0.1)
    wide.tracks[0, '0'].frames[0].positions[0] = [200.0, 0.0, 0.0]
    packed = pack_replay(wide, LAYOUT, 'z')
    observed = points(packed, packed['people'][0]['observed'])
    assert packed['step_m'] > 0.003
    np.testing.assert_allclose(observed[0, 0], [200.0, 0.0, 0.0], atol=packed['step_m'])


@pytest.mark.parametrize(('people', 'every'), [(1, 1), (2, 1), (30, 4)])
def test_ten_seconds_stay_below_three_megabytes(people: int, every: int) -> None:
    packed = pack_replay(made_up(people, 10.0), LAYOUT, 'z')
    assert packed['every'] == every
    assert len(str(packed)) < 2_700_000  # charts and tables take below 0.3


def test_passes_of_a_loop_follow_each_other() -> None:
    times_ms = scene_times_ms(made_up(1, 1.0, epochs=2))
    assert (np.diff(times_ms) > 0).all()
    assert times_ms[29] == 967 and times_ms[30] == 1467


@pytest.mark.parametrize('up', [('z', [0, 0, 1]), ('-y', [0, -1, 0]), ('unknown', [0, 0, 1])])
def test_up_is_the_axis_of_the_configuration(up: tuple[str, list[int]]) -> None:
    assert pack_replay(made_up(1, 0.1), LAYOUT, up[0])['up'] == up[1]


def cases_with(scale: float) -> list[Case]:
    """Cases whose errors are `scale` times as large as their covariances say."""
    random = np.random.default_rng(5)
    root = random.normal(size=(25, 18, 3, 3))
    spread = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3)
    cases = []
    for _ in range(200):
        drawn = np.linalg.cholesky(spread) @ random.normal(size=(25, 18, 3, 1))
        told = Prediction(
            'ann', 0, Validity.OK, positions=np.zeros((25, 18, 3)), covariances=spread
        )
        cases.append(Case(told, scale * drawn[..., 0], {}))
    return cases


def test_coverage_is_nominal_for_errors_with_the_published_covariance() -> None:
    for shares in coverage(cases_with(1.0), HORIZONS_S).values():
        assert [*shares.values()] == pytest.approx([*map(float, shares)], abs=0.03)


def test_coverage_is_low_for_understated_covariances() -> None:
    assert all(own['0.9'] < 0.6 for own in coverage(cases_with(2.0), HORIZONS_S).values())


def test_errors_by_joint_average_to_the_overall_errors(played: Replay) -> None:
    cases = score(played)
    joints = joint_errors_mm(cases, HORIZONS_S, LAYOUT.joint_names)
    everybody = bag_report(played, cases)['mpjpe_mm']
    for method, errors in everybody.items():
        for ms, error in errors.items():
            assert np.mean([own[method][ms] for own in joints.values()]) == pytest.approx(error)
    assert joints['pelvis'] != joints['l_wrist']


def test_a_long_replay_leaves_scenes_out_and_reports_it(
    played: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page_of(played, tmp_path / 'a.html')
    monkeypatch.setattr(replay_data, '_MIN_SIZE', 20_000)
    monkeypatch.setattr(replay_data, '_PER_S', 8_000)
    thinned = page_of(played, tmp_path / 'b.html')
    assert 'One observation of' in thinned and 'One observation of' not in whole
    assert len(thinned) < len(whole) - 40_000
