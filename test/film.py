# SPDX-License-Identifier: Apache-2.0
"""Film a replay: people, their predicted motion, possible futures and keep-out volumes.

A volume is drawn as a glow that one can see through. Where a ray of the camera passes a length L
of volume, it covers 1 - exp(-k L) of what lies behind; a line marks its silhouette. The film shows
the part of the replay with the most people, and ends where it began, so that it loops.

    python test/film.py --bag demo/demo.mcap --params config/demo.yaml --out docs/demo.webp
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from motion_predictor_ros.config import read_parameter_file
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.evaluation.report.bag import evaluate_bag
from motion_predictor_ros.scoring.metrics import Motion, Pose
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import UPWARDS

SIZE = (720, 405)
RATE_HZ = 12.5
_SHARPER = 2
"""Lines are drawn so many times as large, then made smaller."""
_COARSER = 2
"""Glows are computed with so many times fewer pixels."""

_GHOSTS_S = (0.2, 0.4, 0.6, 0.8, 1.0)
_UNTIL_S = 1.0
_NOW, _NEAR, _FAR = (244, 246, 255), (255, 170, 64), (148, 92, 255)
_COVERAGE, _RISK = (64, 190, 255), (70, 255, 196)
_FUTURE = (255, 110, 180)
_DENSITY = {'coverage': 0.2, 'risk': 0.6}  # k [1/m]
_ABOVE, _BELOW = (10, 14, 26), (24, 30, 48)
_FILM, _OUTLINE = 0.06, 0.4
_HOLD_S = 0.5


@dataclass(frozen=True)
class _Camera:
    """Looks at `target` from `distance_m` away."""

    target: Float64[np.ndarray, '3']
    right: Float64[np.ndarray, '3']
    above: Float64[np.ndarray, '3']
    to_eye: Float64[np.ndarray, '3']
    distance_m: float

    @classmethod
    def orbiting(
        cls,
        target: Float64[np.ndarray, '3'],
        distance_m: float,
        turn: float,
        tilt: float,
        up: Float64[np.ndarray, '3'],
    ) -> '_Camera':
        ahead = np.roll(np.abs(up), 1)
        flat = np.cos(turn) * ahead + np.sin(turn) * np.cross(up, ahead)
        to_eye = np.cos(tilt) * flat + np.sin(tilt) * up
        right = np.cross(up, flat)
        return cls(target, right, np.cross(to_eye, right), to_eye, distance_m)

    def project(
        self, points: Float64[np.ndarray, '*batch xyz=3'], scale: float = 1.0
    ) -> tuple[Float64[np.ndarray, '*batch 2'], Float64[np.ndarray, '*batch']]:
        """Return pixels, and pixels a metre; `scale` is that of the picture."""
        away = points - self.target
        depth = np.maximum(self.distance_m - away @ self.to_eye, 0.2)
        per_metre = scale * 1.15 * SIZE[1] / depth
        x = 0.5 * scale * SIZE[0] + per_metre * (away @ self.right)
        y = 0.5 * scale * SIZE[1] - per_metre * (away @ self.above)
        return np.stack([x, y], axis=-1), per_metre


@dataclass(frozen=True)
class _Person:
    """A person as observed, and as predicted [m]; `paths` are those of the root in all futures."""

    person_id: str
    pose: Pose
    future: Motion
    paths: Float64[np.ndarray, 'path time xyz=3']


def animate(
    played: Replay, layout: SkeletonLayout, up: str, path: Path, seconds: float = 6.0
) -> Path:
    """Write an animated WebP, or GIF by the name's ending.

    Args:
        up: Axis of the frame that points up, such as 'z'; z if it is 'unknown'.
        seconds: Of the replay.
    """
    epoch, begin_ns = _busiest(played, seconds)
    upwards = UPWARDS.get(up, UPWARDS['z'])
    count = round(seconds * RATE_HZ)
    stamps_ns = begin_ns + np.round(np.arange(count) / RATE_HZ * NS_PER_S).astype(np.int64)
    moments = [_moment(played, epoch, stamp_ns) for stamp_ns in stamps_ns.tolist()]
    points = np.concatenate([person.pose for moment in moments for person in moment])
    low, high = points.min(axis=0), points.max(axis=0)
    target, floor = 0.5 * (low + high), float((points @ upwards).min())
    distance_m = 2.1 + 0.75 * float(np.linalg.norm(high - low))
    frames = []
    for index, (stamp_ns, people) in enumerate(zip(stamps_ns.tolist(), moments, strict=True)):
        turn = -1.1 + 0.35 * np.sin(2.0 * np.pi * index / count)
        camera = _Camera.orbiting(target, distance_m, turn, 0.24, upwards)
        volumes = [_held(played, epoch, stamp_ns, person.person_id) for person in people]
        frames.append(_frame(camera, people, volumes, layout, upwards, floor))
    path.parent.mkdir(parents=True, exist_ok=True)
    shown_ms = round(1000.0 / RATE_HZ)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=shown_ms, loop=0, quality=62
    )
    return path


def _busiest(played: Replay, seconds: float) -> tuple[int, int]:
    """Return the pass and the stamp at which the seconds with the most volumes begin."""
    stamps = np.array([(epoch, scene.stamp_ns) for epoch, scene in played.scenes])
    counts = np.array(
        [
            sum(volume.validity is Validity.OK for volume in played.volumes.get(key, ()))
            + 0.01 * sum(person.positions is not None for person in scene.people)
            for key, (_, scene) in zip(map(tuple, stamps.tolist()), played.scenes, strict=True)
        ]
    )
    passes, times_ns = stamps.T
    ends = times_ns + round(seconds * NS_PER_S)
    sums = [
        counts[(passes == epoch) & (times_ns >= begin_ns) & (times_ns < end_ns)].sum()
        for epoch, begin_ns, end_ns in zip(passes, times_ns, ends, strict=True)
    ]
    epoch, begin_ns = stamps[int(np.argmax(sums))].tolist()
    return epoch, begin_ns


def _moment(played: Replay, epoch: int, stamp_ns: int) -> list[_Person]:
    """Return the people of the scene next to a stamp with all joints observed and a prediction."""
    scene = min(
        (scene for other, scene in played.scenes if other == epoch),
        key=lambda scene: abs(scene.stamp_ns - stamp_ns),
    )
    people = []
    for person in scene.people:
        frames = played.tracks[epoch, person.person_id].frames
        poses = (frame.positions for frame in frames if frame.stamp_ns == scene.stamp_ns)
        pose = next(poses, None)
        if pose is not None and person.positions is not None and np.isfinite(pose).all():
            paths = _paths(played, epoch, stamp_ns, person.person_id)
            people.append(_Person(person.person_id, pose, person.positions, paths))
    return people


def _paths(
    played: Replay, epoch: int, stamp_ns: int, person_id: str
) -> Float64[np.ndarray, 'path time xyz=3']:
    """Return the paths of the root in the newest futures of a person; none where they are old."""
    for (other, drawn_ns), futures in reversed(played.futures.items()):
        age_s = (stamp_ns - drawn_ns) / NS_PER_S
        if other == epoch and -0.05 <= age_s <= _HOLD_S and person_id in futures.person_ids:
            return futures.positions[futures.person_ids.index(person_id), :, :, 0]
    return np.zeros((0, 0, 3))


def _held(
    played: Replay, epoch: int, stamp_ns: int, person_id: str
) -> list[tuple[KeptVolume, float]]:
    """Return the last two volumes of a person and how much of each to show."""
    known = [
        volume
        for (other, _), volumes in played.volumes.items()
        for volume in volumes
        if other == epoch
        and volume.person_id == person_id
        and volume.validity is Validity.OK
        and -0.05 <= (stamp_ns - volume.stamp_ns) / NS_PER_S <= _HOLD_S
    ][-2:]
    if not known:
        return []
    shown = float(np.clip(0.4 + (stamp_ns - known[-1].stamp_ns) / (0.2 * NS_PER_S), 0.0, 1.0))
    if len(known) == 1:
        return [(known[0], 1.0)]
    return [(known[0], 1.0 - shown), (known[1], shown)]


def _frame(
    camera: _Camera,
    people: Sequence[_Person],
    volumes: Sequence[list[tuple[KeptVolume, float]]],
    layout: SkeletonLayout,
    up: Float64[np.ndarray, '3'],
    floor: float,
) -> Image.Image:
    picture = _background(camera, up, floor)
    lengths = {name: np.zeros((SIZE[1] // _COARSER, SIZE[0] // _COARSER)) for name in _DENSITY}
    for volume, share in (pair for held in volumes for pair in held):
        for name, covered in _promises(volume):
            lengths[name] += share * _length(camera, volume, covered)
    for name, colour in (('coverage', _COVERAGE), ('risk', _RISK)):
        if lengths[name].any():
            picture = _glow(picture, lengths[name], _DENSITY[name], colour)
    large = tuple(_SHARPER * length for length in SIZE)
    lines = Image.fromarray(picture).resize((large[0], large[1]), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(lines)
    for person in people:
        _draw_person(pen, camera, person, layout)
    image = lines.resize(SIZE, Image.Resampling.LANCZOS)
    _caption(image, next((volume for kept in volumes for volume, _ in kept), None))
    return image


def _promises(volume: KeptVolume) -> list[tuple[str, list[Bool[np.ndarray, '_ _ _']]]]:
    """Return the volumes of both promises, until `_UNTIL_S`."""
    windows = [window for window in volume.windows if window.end_s <= _UNTIL_S + 1e-6]
    inner = [window.other for window in windows if window.other is not None]
    return [(volume.promise, [window.covered for window in windows]), (volume.other, inner)]


def _length(
    camera: _Camera, volume: KeptVolume, covered: list[Bool[np.ndarray, '_ _ _']]
) -> Float64[np.ndarray, 'row column']:
    """Return how far each pixel's ray passes through a volume [m], smoothed over a voxel."""
    shape = SIZE[1] // _COARSER, SIZE[0] // _COARSER
    longest = np.zeros(shape)
    for window, inside in zip(volume.windows, covered, strict=False):
        if not inside.any():
            continue
        centres, size_m = window.grid.centres(inside), window.grid.size_m
        places, per_metre = camera.project(centres, 1.0 / _COARSER)
        column, row = places.astype(int).T
        seen = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
        flat = row[seen] * shape[1] + column[seen]
        # A voxel of edge a fills (a f / depth)^2 pixels with a length a each.
        weights = size_m * (size_m * per_metre[seen]) ** 2
        length = np.bincount(flat, weights, shape[0] * shape[1]).reshape(shape)
        smooth = gaussian_filter(length, 0.7 * size_m * float(np.median(per_metre)))
        longest = np.maximum(longest, smooth)
    return longest


def _glow(
    picture: np.ndarray,
    length: Float64[np.ndarray, 'row column'],
    density: float,
    colour: tuple[int, int, int],
) -> np.ndarray:
    """Lay a volume over the picture, and the line of its silhouette."""
    glow = Image.fromarray(length.astype(np.float32)).resize(SIZE, Image.Resampling.BICUBIC)
    metres = np.asarray(glow).clip(0.0)
    opacity = 1.0 - (1.0 - _FILM * (1.0 - np.exp(-metres / 0.03))) * np.exp(-density * metres)
    outline = _OUTLINE * np.exp(-(((metres - 0.1) / 0.06) ** 2)) * (metres > 0.02)
    share = np.clip(np.maximum(opacity, outline), 0.0, 0.85)[..., None]
    blended = (1.0 - share) * picture + share * np.array(colour)
    return np.clip(blended, 0, 255).astype(np.uint8)


def _background(camera: _Camera, up: Float64[np.ndarray, '3'], floor: float) -> np.ndarray:
    """Return a dark room with a floor of one-metre squares that fades."""
    share = np.linspace(0.0, 1.0, SIZE[1])[:, None, None]
    room = (1.0 - share) * np.array(_ABOVE) + share * np.array(_BELOW)
    room = np.broadcast_to(room, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    image = Image.fromarray(room.copy())
    pen = ImageDraw.Draw(image)
    ahead = np.roll(np.abs(up), 1)
    aside = np.cross(up, ahead)
    middle = camera.target - (camera.target @ up - floor) * up
    middle = middle - (middle @ ahead % 1.0) * ahead - (middle @ aside % 1.0) * aside
    span = np.arange(-6.0, 7.0)
    for one, other in ((ahead, aside), (aside, ahead)):
        for offset in span:
            line = middle + offset * one + np.linspace(-6.0, 6.0, 25)[:, None] * other
            places, _ = camera.project(line)
            away = np.linalg.norm(line - middle, axis=1)
            for a, b, far in zip(places[:-1], places[1:], away[:-1], strict=True):
                bright = max(0.0, 1.0 - far / 6.0)
                colour = tuple(int(base + 42 * bright) for base in _BELOW)
                if bright > 0.05:
                    pen.line([*a, *b], fill=colour, width=1)
    return np.asarray(image)


def _draw_person(
    pen: ImageDraw.ImageDraw, camera: _Camera, person: _Person, layout: SkeletonLayout
) -> None:
    """Draw possible futures, predicted poses, the latest first, and the observed pose."""
    for path in person.paths:
        places, _ = camera.project(np.concatenate([person.pose[:1], path]), _SHARPER)
        pen.line([*places.ravel().tolist()], fill=_FUTURE, width=2)
    frames = len(person.future)
    for ahead_s in reversed(_GHOSTS_S):
        frame = min(round(ahead_s * frames / _GHOSTS_S[-1]), frames) - 1
        share = ahead_s / _GHOSTS_S[-1]
        colour = tuple(
            round((1.0 - share) * near + share * far)
            for near, far in zip(_NEAR, _FAR, strict=True)
        )
        _bones(pen, camera, person.future[frame], layout, colour, 0.028)
    _bones(pen, camera, person.pose, layout, _NOW, 0.05)


def _bones(
    pen: ImageDraw.ImageDraw,
    camera: _Camera,
    pose: Pose,
    layout: SkeletonLayout,
    colour: tuple[int, ...],
    width_m: float,
) -> None:
    places, per_metre = camera.project(pose, _SHARPER)
    for first, second in layout.bones:
        width = max(2, round(width_m * float(per_metre[[first, second]].mean())))
        pen.line([*places[first], *places[second]], fill=colour, width=width)
    for place, scale in zip(places, per_metre, strict=True):
        radius = 0.5 * max(2.0, width_m * float(scale))
        pen.ellipse([*(place - radius), *(place + radius)], fill=colour)
    if 'head' in layout.joint_names:
        head = layout.joint_names.index('head')
        radius = 1.6 * width_m * float(per_metre[head])
        pen.ellipse([*(places[head] - radius), *(places[head] + radius)], fill=colour)


def _caption(image: Image.Image, volume: KeptVolume | None) -> None:
    """Write what the colours mean."""
    folder = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
    font = ImageFont.truetype(str(folder / 'DejaVuSans.ttf'), 13)
    pen = ImageDraw.Draw(image)
    entries = [('now', _NOW), ('+0.2 s', _NEAR), ('+1 s', _FAR), ('futures, 2 s', _FUTURE)]
    if volume is not None:
        entries += [('keep-out volume: coverage', _COVERAGE), ('risk', _RISK)]
    x, y = 16.0, SIZE[1] - 26
    for text, colour in entries:
        pen.ellipse([x, y + 4, x + 9, y + 13], fill=colour)
        pen.text((x + 15, y), text, font=font, fill=(205, 212, 228))
        x += 34.0 + pen.textlength(text, font=font)


def main() -> None:
    """Replay a bag and write its film."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--bag', type=Path, required=True, help='rosbag2 with skeletons')
    parser.add_argument('--params', type=Path, required=True, help='ROS parameter file')
    parser.add_argument('--out', type=Path, required=True, help='WebP or GIF to write')
    options = parser.parse_args()
    evaluation = evaluate_bag(options.bag, '', read_parameter_file(options.params))
    animate(evaluation.run, evaluation.layout, evaluation.up, options.out)


if __name__ == '__main__':
    main()
