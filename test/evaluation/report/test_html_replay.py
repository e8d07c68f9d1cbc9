# SPDX-License-Identifier: Apache-2.0
"""The replay in a real browser: no complaint, no request, and it does what hands ask for."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Page, browser
from evaluation.report.test_html import HOSTILE, LAYOUT
from models import write_weights
from scenes import stream
from volume_replays import told, weighed
from volume_scenes import SHAPE

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.evaluation.replay.replay import Replay, replay, score
from motion_predictor_ros.evaluation.report.html import write_html
from motion_predictor_ros.evaluation.report.tables import bag_report
from motion_predictor_ros.pipeline import Pipeline

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='needs chromium (Debian: chromium)')

FRAMES = 50


@pytest.fixture(scope='module')
def played(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    weights = write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    pipeline = Pipeline.load(PipelineConfig(prediction=prediction))
    return replay(stream(0.0, 2.5, 'ann', HOSTILE, rate_hz=20.0), pipeline)


@pytest.fixture(scope='module')
def path(played: Replay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    volumes = told(played, every=4, wander_m=0.05)
    whole = dataclasses.replace(played, volumes=volumes, futures=weighed(played, every=4))
    return write(whole, tmp_path_factory.mktemp('page') / 'report.html')


def write(played: Replay, path: Path) -> Path:
    cases = score(played)
    report = bag_report(played, cases, (SHAPE, 3))
    write_html(report, played, cases, LAYOUT, 'z', 'walk', path)
    return path


@pytest.fixture(scope='module')
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp('profile')) as page:
        yield page


@pytest.fixture
def page(started: Page, path: Path) -> Page:
    started.open(path.as_uri())
    return started


def picture(page: Page) -> str:
    return page.run("document.getElementById('replay').toDataURL()")


def box(page: Page, name: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height of an element [px]."""
    script = f'(b => [b.x, b.y, b.width, b.height])({name_of(name)}.getBoundingClientRect())'
    return tuple(page.run(script))


def name_of(name: str) -> str:
    return f"document.getElementById('{name}')"


def scrub_to(page: Page, part: float) -> int:
    """Drag the slider's knob; return which scene is shown then."""
    left, top, width, height = box(page, 'scrub')
    now = int(page.run(f'{name_of("scrub")}.value')) / (FRAMES - 1)
    knob = left + 8 + now * (width - 16)
    page.drag((knob, top + height / 2), (left + 8 + part * (width - 16), top + height / 2))
    return int(page.run(f'{name_of("scrub")}.value'))


def pixels(page: Page, colour: str) -> int:
    """Count the picture's pixels of exactly this colour ('#rrggbb')."""
    return page.run(f"""(() => {{
        const canvas = {name_of('replay')};
        const seen = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const [r, g, b] = [1, 3, 5].map((at) => parseInt('{colour}'.slice(at, at + 2), 16));
        let count = 0;
        for (let at = 0; at < seen.length; at += 4) {{
            count += seen[at] === r && seen[at + 1] === g && seen[at + 2] === b;
        }}
        return count;
    }})()""")


def ghost_colours(page: Page) -> list[str]:
    return page.run("JSON.parse(document.getElementById('replay-data').textContent).ghost_colours")


def test_the_browser_logs_no_error_and_requests_nothing(page: Page, path: Path) -> None:
    page.requests.clear()
    page.open(path.as_uri())
    scrub_to(page, 0.5)
    assert page.console == []
    assert [each for each in page.requests if not each.startswith('data:')] == [path.as_uri()]


@pytest.mark.parametrize(
    'fault', ['undefined_name()', "new Image().src = 'http://127.0.0.1:9/x.png'"]
)
def test_a_fault_is_noticed_and_a_request_forbidden(
    fault: str, started: Page, path: Path, tmp_path: Path
) -> None:
    broken = tmp_path / 'broken.html'
    broken.write_text(path.read_text().replace("'use strict';", f"'use strict'; {fault};", 1))
    started.open(broken.as_uri())
    assert len(started.console) == 1
    started.console.clear()


def test_scrubbing_changes_the_picture_and_back_again(page: Page) -> None:
    first = picture(page)
    assert picture(page) == first
    middle = scrub_to(page, 0.6)
    assert middle == pytest.approx(0.6 * (FRAMES - 1), abs=2)
    assert picture(page) != first
    assert page.run(f'{name_of("readout")}.textContent') == f'{middle / 20:.2f} s'
    assert scrub_to(page, 0.0) == 0
    assert picture(page) == first


def test_dragging_orbits_the_wheel_zooms_and_a_double_click_resets(page: Page) -> None:
    left, top, width, height = box(page, 'replay')
    middle = (left + width / 2, top + height / 2)
    first = picture(page)
    page.drag(middle, (middle[0] + 60, middle[1] + 20))
    turned = picture(page)
    page.mouse('mouseWheel', *middle, deltaX=0, deltaY=-300)
    assert len({first, turned, picture(page)}) == 3
    for clicks in (1, 2):
        page.mouse('mousePressed', *middle, button='left', buttons=1, clickCount=clicks)
        page.mouse('mouseReleased', *middle, button='left', clickCount=clicks)
    assert picture(page) == first


def test_ghosts_go_from_orange_to_purple_and_can_be_hidden(page: Page) -> None:
    show_only(page, 'ghosts')
    scrub_to(page, 0.8)
    near, *_, far = ghost_colours(page)
    assert min(pixels(page, near), pixels(page, far)) > 5
    page.run(f'{name_of("show-ghosts")}.click()')
    assert pixels(page, near) == pixels(page, far) == 0
    assert pixels(page, '#111111') > 5


def show_only(page: Page, *wanted: str) -> None:
    for name in ('ghosts', 'truth', 'futures', 'voxels', 'keep'):
        switch = name_of(f'show-{name}')
        if page.run(f'{switch}.checked') != (name in wanted):
            page.run(f'{switch}.click()')


def set_threshold(page: Page, level: int) -> str:
    """Move the slider; return what the page says of it."""
    page.run(
        f"{name_of('threshold')}.value = '{level}', "
        f"{name_of('threshold')}.dispatchEvent(new Event('input'))"
    )
    return page.run(f'{name_of("least")}.textContent')


def coloured(page: Page) -> int:
    """Count pixels that are greener than they are red and blue."""
    return page.run(f"""(() => {{
        const canvas = {name_of('replay')};
        const seen = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let at = 0; at < seen.length; at += 4) {{
            count += seen[at + 1] > seen[at] + 8 && seen[at + 1] > seen[at + 2] + 8;
        }}
        return count;
    }})()""")


def test_a_higher_threshold_leaves_fewer_voxels(page: Page) -> None:
    show_only(page, 'voxels')
    counts = []
    for level, said in ((0, '1 %'), (5, '20 %'), (10, '70 %')):
        assert set_threshold(page, level) == said
        counts.append(coloured(page))
    assert counts[0] > counts[1] > counts[2] > 50
    set_threshold(page, 0)
    assert coloured(page) == counts[0]
    show_only(page)
    assert coloured(page) == 0


def test_each_time_window_has_its_voxels(page: Page) -> None:
    show_only(page, 'voxels')
    options = page.run(f'Array.from({name_of("window")}.options, (each) => each.text)')
    assert options == ['0 to 0.25 s', '0.25 to 0.5 s', '0.5 to 1 s']
    set_threshold(page, 0)
    pictures = []
    for at in range(3):
        page.run(
            f"{name_of('window')}.value = '{at}', "
            f"{name_of('window')}.dispatchEvent(new Event('change'))"
        )
        pictures.append(picture(page))
    assert len(set(pictures)) == 3


def test_the_space_to_keep_free_has_an_outline_and_voxels_move_with_it(page: Page) -> None:
    show_only(page, 'keep')
    assert pixels(page, '#00798c') > 50
    show_only(page, 'voxels')
    page.run(f'{name_of("follow")}.click()')
    scrub_to(page, 0.2)
    first = picture(page)
    scrub_to(page, 0.9)
    assert picture(page) != first


def test_futures_go_from_likely_to_unlikely_in_opaque_colours(page: Page) -> None:
    show_only(page, 'futures')
    scrub_to(page, 0.5)
    data = "JSON.parse(document.getElementById('replay-data').textContent)"
    likely, *_, unlikely = page.run(f'{data}.future_colours')
    assert min(pixels(page, likely), pixels(page, unlikely)) > 5
    show_only(page)
    assert pixels(page, likely) == pixels(page, unlikely) == 0


def test_without_volumes_there_is_nothing_to_set(
    started: Page, played: Replay, tmp_path: Path
) -> None:
    started.console.clear()  # reading the canvas back often is warned of
    plain = dataclasses.replace(played, futures={})
    started.open(write(plain, tmp_path / 'plain.html').as_uri())
    assert started.console == []
    assert box(started, 'volumes')[2:] == box(started, 'futures')[2:] == (0, 0)
    assert coloured(started) == 0


def test_the_truth_is_drawn_at_its_later_observation(page: Page) -> None:
    near, *_, far = ghost_colours(page)
    show_only(page, 'truth')
    assert pixels(page, far) > 5
    scrub_to(page, 0.8)  # a second later the bag has ended
    assert pixels(page, far) == 0 and pixels(page, near) > 5


def test_playback_runs_to_the_end_and_keys_step(page: Page) -> None:
    page.run(f"{name_of('speed')}.value = '2', {name_of('play')}.click()")
    page.run('new Promise((done) => setTimeout(done, 300))')
    assert page.run(f'{name_of("play")}.textContent') == 'Pause'
    script = """new Promise((done) => {
        const look = () => document.getElementById('play').textContent === 'Play'
            ? done(document.getElementById('scrub').value) : setTimeout(look, 50);
        look();
    })"""
    assert int(page.run(script)) == FRAMES - 1
    page.run(f'{name_of("replay")}.focus()')
    page.press('ArrowLeft')
    assert int(page.run(f'{name_of("scrub")}.value')) == FRAMES - 2


def test_the_address_may_name_a_moment(page: Page, path: Path) -> None:
    page.open(f'{path.as_uri()}#1.5')
    assert page.run(f'{name_of("readout")}.textContent') == '1.50 s'
