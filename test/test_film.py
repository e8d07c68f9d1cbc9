# SPDX-License-Identifier: Apache-2.0
"""A film of a replay shows people, and their volumes where there are any."""

import dataclasses
from pathlib import Path

import numpy as np
from film import RATE_HZ, SIZE, animate
from PIL import Image
from volume_replays import goes, told, walks

from motion_predictor_ros.skeleton.layout import SkeletonLayout

LAYOUT = SkeletonLayout.load('body18')


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        count = getattr(film, 'n_frames', 1)
        shown = []
        for index in range(count):
            film.seek(index)
            shown.append(np.asarray(film.convert('RGB')).astype(int))
    return shown


def blueish(picture: np.ndarray) -> int:
    """Count pixels of the volumes' colours, bright in green and blue and less so in red."""
    red, green, blue = picture.transpose(2, 0, 1)
    return int(((green > 60) & (blue > 60) & (green > red + 25)).sum())


def test_a_film_moves_and_shows_volumes(tmp_path: Path) -> None:
    played = goes(walks, 1.2)
    plain = frames(animate(played, LAYOUT, 'z', tmp_path / 'plain.webp', 0.8))
    with_volumes = dataclasses.replace(played, volumes=told(played))
    film = frames(animate(with_volumes, LAYOUT, 'z', tmp_path / 'film.webp', 0.8))
    assert len(film) == round(0.8 * RATE_HZ)
    assert film[0].shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(film[0] - film[-1]).max() > 100  # somebody moved
    assert blueish(film[3]) > 20 * max(blueish(plain[3]), 100)
    assert (plain[3] > 200).all(axis=2).sum() > 100  # the person is white


def test_a_gif_is_a_film_too(tmp_path: Path) -> None:
    film = animate(goes(walks, 1.2), LAYOUT, 'z', tmp_path / 'film.gif', 0.4)
    assert len(frames(film)) > 1
