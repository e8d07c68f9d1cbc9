# SPDX-License-Identifier: Apache-2.0
"""Names and conventions that every stage shares.

Frames: positions are in metres in the frame of the observation's `frame_id`, z up in the shipped
data; the model itself is equivariant and does not care. Quaternions are xyzw, as on the ROS wire.
Times are integer nanoseconds since the epoch (`stamp_ns`); horizons are seconds after the stamp of
the observation (`horizon_s`), so t = 0 is the observation, never the computation.

Axis names in jaxtyping annotations:
    batch     people predicted together
    time      observed frames on the model clock, oldest first
    horizon   predicted frames, nearest first
    joint     joints in the order of the model's layout
    xyz       3 Cartesian components
    channel   geometric channels of the model (C)
    pattern   invariant channels of the model (D)
    category  edge categories
    coef      DCT coefficients
    pair      ordered pairs of joints, row-major
    acting    the edge categories that act
    size      a person's flattened state
    window    past iterates of the solver
    sample    frames at their own stamps, before they are put on the model clock
    some      a subset of the joints
    posed     joints of a pose in the body frame: all, or all but the root
    behaviour latent of a future before factorisation
    latent    latent of a future after it (x), and base sample of the flow (z)
    mode      Gaussians of the mixture
    power     [z^2, z, 1], in which the log-density of a Gaussian is linear
    cached    recorded futures
    future    drawn futures of one person
    point     joints, and the tips of hands
    capsule   body parts, each a segment with a radius
    pose      times at which capsules are given
    word      64 voxels above one another, a bit each
    robot     configurations of a robot
    link      spheres or capsules of a robot
    level     coverage levels
"""

REPORT_HORIZONS_MS = (80, 160, 320, 400, 560, 1000)
"""Horizons at which errors are reported [ms], as in the literature."""

NS_PER_S = 1_000_000_000
