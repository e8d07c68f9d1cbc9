# SPDX-License-Identifier: Apache-2.0
"""Anderson mixing against maps whose fixed points are known."""

import torch

from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings, anderson


def linear_map(radius: float, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (A, b) of f(z) = A z + b with spectral radius `radius`."""
    torch.manual_seed(0)
    matrix = torch.randn(size, size)
    matrix = matrix * (radius / torch.linalg.eigvals(matrix).abs().max())
    return matrix, torch.randn(size)


def test_fixed_point_of_a_linear_map_is_its_solution() -> None:
    matrix, offset = linear_map(0.9)
    found = anderson(
        lambda z: z @ matrix.T + offset, torch.zeros(2, 6), SolverSettings(100, 1e-10)
    )
    truth = torch.linalg.solve(torch.eye(6) - matrix, offset)
    torch.testing.assert_close(found.state, truth.expand(2, 6), atol=1e-7, rtol=0.0)


def test_mixing_solves_what_plain_iteration_cannot() -> None:
    matrix, offset = linear_map(1.3)
    settings = SolverSettings(100, 1e-8, window=6, ridge=1e-12)

    def step(z: torch.Tensor) -> torch.Tensor:
        return z @ matrix.T + offset

    assert bool(anderson(step, torch.zeros(1, 6), settings).converged.all())
    plain = torch.zeros(1, 6)
    for _ in range(100):
        plain = step(plain)
    assert (step(plain) - plain).norm() > 1.0


def test_the_best_iterate_is_returned_when_the_map_runs_away() -> None:
    def explodes(z: torch.Tensor) -> torch.Tensor:
        return torch.where(z.abs() > 1.5, torch.nan, z * 1.2)

    found = anderson(explodes, torch.ones(1, 3), SolverSettings(20, 1e-6))
    assert bool(torch.isfinite(found.state).all())
    assert not bool(found.converged.any())


def test_a_person_who_leaves_the_finite_does_not_harm_the_others() -> None:
    matrix, offset = linear_map(0.5)

    def step(z: torch.Tensor) -> torch.Tensor:
        image = z @ matrix.T + offset
        image[0] = torch.nan
        return image

    found = anderson(step, torch.zeros(2, 6), SolverSettings(60, 1e-10))
    truth = torch.linalg.solve(torch.eye(6) - matrix, offset)
    torch.testing.assert_close(found.state[1], truth, atol=1e-7, rtol=0.0)
    assert found.converged.tolist() == [False, True]


def test_a_solved_person_stops_changing_and_counting() -> None:
    matrix, offset = linear_map(0.9)
    truth = torch.linalg.solve(torch.eye(6) - matrix, offset)
    start = torch.stack([truth, torch.zeros(6)])
    found = anderson(lambda z: z @ matrix.T + offset, start, SolverSettings(50, 1e-9))
    assert found.steps[0] == 1 and found.steps[1] > 3


def test_the_motion_rule_stops_when_the_motion_does() -> None:
    matrix, offset = linear_map(0.9)

    def step(z: torch.Tensor) -> torch.Tensor:
        return z @ matrix.T + offset

    def motion(z: torch.Tensor) -> torch.Tensor:
        return z.reshape(len(z), 2, 3)

    exact = SolverSettings(50, 1e-12)
    loose = SolverSettings(50, 1e-12, motion_tolerance_m=1e-3)
    whole = anderson(step, torch.zeros(1, 6), exact, decode=motion)
    short = anderson(step, torch.zeros(1, 6), loose, decode=motion)
    assert int(short.steps) < int(whole.steps) and bool(short.converged)
    assert (motion(short.state) - motion(whole.state)).norm(dim=-1).mean() < 5e-3
