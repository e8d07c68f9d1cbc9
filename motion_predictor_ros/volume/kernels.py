# SPDX-License-Identifier: Apache-2.0
"""Compiled loops over capsules, voxels and robots.

Stage: volume. Arrays are contiguous, of the types that annotations say. Nothing imports torch:
these kernels can be compiled without it.
"""

from functools import partial

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt64

from motion_predictor_ros.runtime.jit import compiled, inlined

BLOCK = 8
"""Voxels or columns in one vector loop; masks have so many more along y than the grid."""

SLACK = np.float32(0.01)
"""Added to radii, in voxels: far above float32's rounding, far below what matters."""

LEVEL = np.float32(1e-3)
"""Segments steeper than this, in voxels across, count as this much across."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def tip_points(
    positions: Float64[np.ndarray, 'pose joint xyz=3'],
    ends: Int64[np.ndarray, 'tip 2'],
    lengths: Float64[np.ndarray, ' tip'],
    tips: Float64[np.ndarray, 'pose tip xyz=3'],
) -> None:
    """Write where each tip is: beyond its joint by its length, in line with the parent."""
    for pose in range(len(positions)):
        for tip in range(len(ends)):
            parent, joint = positions[pose, ends[tip, 0]], positions[pose, ends[tip, 1]]
            x, y, z = joint[0] - parent[0], joint[1] - parent[1], joint[2] - parent[2]
            share = lengths[tip] / max(np.sqrt(x * x + y * y + z * z), 1e-9)
            tips[pose, tip, 0] = joint[0] + share * x
            tips[pose, tip, 1] = joint[1] + share * y
            tips[pose, tip, 2] = joint[2] + share * z


@compiled
def widen_bounds(
    corners: Float64[np.ndarray, 'two xyz=3'],
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
) -> None:
    """Widen a box to hold all capsules."""
    futures, poses, capsules = radii.shape
    for future in range(futures):
        for pose in range(poses):
            for capsule in range(capsules):
                reach = radii[future, pose, capsule]
                for axis in range(3):
                    one = starts[future, pose, capsule, axis]
                    two = ends[future, pose, capsule, axis]
                    corners[0, axis] = min(corners[0, axis], min(one, two) - reach)
                    corners[1, axis] = max(corners[1, axis], max(one, two) + reach)


@compiled
def sweep(
    points: Float64[np.ndarray, 'future time point xyz=3'],
    middles: Int64[np.ndarray, ' pose'],
    every: int,
    margins: Float64[np.ndarray, 'pose point'],
    capsules: Int64[np.ndarray, 'capsule 2'],
    body_radii: Float64[np.ndarray, ' capsule'],
    reach: Float64[np.ndarray, ' point'],
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
) -> None:
    """Write starts, ends and radii of capsules at the middle times.

    Args:
        margins: [m] to add at each point.
        body_radii: [m] radii of the body.
        reach: Workspace.
    """
    for future in range(len(points)):
        for pose in range(len(middles)):
            middle = middles[pose]
            _reach(points[future], middle, pose * every, every, reach)
            for part in range(len(capsules)):
                first, last = capsules[part, 0], capsules[part, 1]
                for axis in range(3):
                    starts[future, pose, part, axis] = points[future, middle, first, axis]
                    ends[future, pose, part, axis] = points[future, middle, last, axis]
                margin = max(
                    reach[first] + margins[pose, first], reach[last] + margins[pose, last]
                )
                radii[future, pose, part] = body_radii[part] + margin


@partial(inlined, early=True)
def _reach(
    points: Float64[np.ndarray, 'time point xyz=3'],
    middle: int,
    first: int,
    every: int,
    reach: Float64[np.ndarray, ' point'],
) -> None:
    """Write how far points go from the middle time until half way to the next group [m].

    Lines are straight, so the farthest places are given times or the half-way points.
    """
    times, count, _ = points.shape
    last = min(first + every, times)
    begin, end = max(2 * first - 1, 0), min(2 * last, 2 * times - 1)
    for point in range(count):
        farthest2 = 0.0
        for half in range(begin, end):
            low, high = half // 2, (half + 1) // 2
            away2 = 0.0
            for axis in range(3):
                place = 0.5 * (points[low, point, axis] + points[high, point, axis])
                away = place - points[middle, point, axis]
                away2 += away * away
            farthest2 = max(farthest2, away2)
        reach[point] = np.sqrt(farthest2)


@compiled
def add_futures(
    starts: Float64[np.ndarray, 'future pose capsule 3'],
    ends: Float64[np.ndarray, 'future pose capsule 3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    weights: Float64[np.ndarray, ' future'],
    origin: Float64[np.ndarray, 'xyz=3'],
    size_m: float,
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
) -> None:
    """Add each future's weight once wherever any of its capsules is.

    In the vertical plane of a column, at `along` the segment's projection and `across` it, the
    column enters and leaves a capsule of radius r over the points u of the segment:

        u = clip((along -+ sqrt(r^2 - across^2) sin(slope)) / level, 0, 1)
        z = az + u dz -+ sqrt(r^2 - across^2 - (along - u level)^2)

    Args:
        starts, ends, radii: [m], radii padded.
        origin: Centre of the first voxel [m].
        size_m: Edge of a voxel [m].
        masks: Workspace, zero, along y `BLOCK` longer than the grid; a bit is a voxel.
        probability: Added to.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    words, nx, ny = masks.shape[0], masks.shape[1], masks.shape[2] - BLOCK
    for future in range(len(weights)):
        box = nx, -1, ny, -1
        for part in range(starts.shape[1] * starts.shape[2]):
            pose, capsule = part // starts.shape[2], part % starts.shape[2]
            start, end = starts[future, pose, capsule], ends[future, pose, capsule]
            ax = np.float32((start[0] - origin[0]) / size_m)
            ay = np.float32((start[1] - origin[1]) / size_m)
            az = np.float32((start[2] - origin[2]) / size_m)
            bx = np.float32((end[0] - origin[0]) / size_m)
            by = np.float32((end[1] - origin[1]) / size_m)
            bz = np.float32((end[2] - origin[2]) / size_m)
            reach = np.float32(radii[future, pose, capsule] / size_m) + SLACK
            x0 = max(int(np.ceil(min(ax, bx) - reach)), 0)
            x1 = min(int(np.floor(max(ax, bx) + reach)), nx - 1)
            y0 = max(int(np.ceil(min(ay, by) - reach)), 0)
            y1 = min(int(np.floor(max(ay, by) + reach)), ny - 1)
            first = max(int(np.floor((min(az, bz) - reach) / 64)), 0)
            last = min(int(np.floor((max(az, bz) + reach) / 64)), words - 1)
            box = min(box[0], x0), max(box[1], x1), min(box[2], y0), max(box[3], y1)
            dx, dy, dz = bx - ax, by - ay, bz - az
            flat = np.sqrt(dx * dx + dy * dy)
            level = max(flat, LEVEL)
            slope = dz / np.sqrt(level * level + dz * dz)
            ex, ey = (dx / flat, dy / flat) if flat > zero else (one, zero)
            inverse = one / level
            for word in range(first, last + 1):
                lowest = np.float32(64 * word)
                for x in range(x0, x1 + 1):
                    px = np.float32(x) - ax
                    for block in range((y1 - y0 + BLOCK) // BLOCK):
                        base = y0 + BLOCK * block
                        for offset in range(BLOCK):
                            py = np.float32(np.int32(base + offset)) - ay
                            along, across = px * ex + py * ey, py * ex - px * ey
                            rest = reach * reach - across * across
                            root = np.sqrt(max(rest, zero)) * slope
                            up = min(max((along + root) * inverse, zero), one)
                            down = min(max((along - root) * inverse, zero), one)
                            off_up, off_down = along - up * level, along - down * level
                            up2, down2 = rest - off_up * off_up, rest - off_down * off_down
                            top = az + up * dz + np.sqrt(max(up2, zero)) - lowest
                            bottom = az + down * dz - np.sqrt(max(down2, zero)) - lowest
                            top = min(max(top, np.float32(-1.0)), np.float32(63.0))
                            bottom = min(max(bottom, zero), np.float32(64.0))
                            high, low = np.int32(np.floor(top)), np.int32(np.ceil(bottom))
                            bits = _ALL >> np.uint64(np.int32(63) - high & 63)
                            bits &= _ALL << np.uint64(low & 63)
                            hit = (min(up2, down2) >= zero) & (high >= low)
                            masks[word, x, base + offset] |= bits if hit else np.uint64(0)
        _add(np.float32(weights[future]), masks, probability, box)


@partial(inlined, early=True)
def _add(
    weight: float,
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
    box: tuple[int, int, int, int],
) -> None:
    """Add the weight where bits are set, and clear them.

    Args:
        box: First and last column along x, and along y.
    """
    height = probability.shape[2]
    for x in range(box[0], box[1] + 1):
        for y in range(box[2], min(box[3] + 1 + BLOCK, masks.shape[2])):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    masks[word, x, y] = np.uint64(0)
                    base = 64 * word
                    for z in range(min(64, height - base) if y < probability.shape[1] else 0):
                        bit = (bits >> np.uint64(z)) & np.uint64(1)
                        probability[x, y, base + z] += weight * np.float32(bit)


@compiled
def column_reaches(
    closeness_m: Float32[np.ndarray, 'x y z'], reach_m: float, reaches: Float32[np.ndarray, 'x y']
) -> None:
    """Write how far from the body a level can be in each column and those beside it [m].

    Args:
        closeness_m: beta log((S + e) / (1 + e)) - g h, by which distances must be smaller.
    """
    nx, ny, nz = closeness_m.shape
    reaches[:] = -np.inf
    for x in range(nx):
        for y in range(ny):
            highest = closeness_m[x, y, 0]
            for z in range(1, nz):
                highest = max(highest, closeness_m[x, y, z])
            highest += np.float32(reach_m)
            for i in range(max(x - 1, 0), min(x + 2, nx)):
                for j in range(max(y - 1, 0), min(y + 2, ny)):
                    reaches[i, j] = max(reaches[i, j], highest)


@compiled
def widen_box(
    values: Float32[np.ndarray, 'x y z'],
    distance: Float32[np.ndarray, 'x y z'],
    lowest: float,
    box: Int64[np.ndarray, 'corner xyz=3'],
) -> float:
    """Widen a box of voxels to hold those with F >= lowest; return the largest d of these [m]."""
    nx, ny, nz = values.shape
    farthest = 0.0
    for x in range(nx):
        for y in range(ny):
            for z in range(nz):
                if values[x, y, z] >= lowest:
                    farthest = max(farthest, float(distance[x, y, z]))
                    box[0, 0], box[1, 0] = min(box[0, 0], x), max(box[1, 0], x)
                    box[0, 1], box[1, 1] = min(box[0, 1], y), max(box[1, 1], y)
                    box[0, 2], box[1, 2] = min(box[0, 2], z), max(box[1, 2], z)
    return farthest


@compiled
def interpolate(
    values: Float32[np.ndarray, 'x y z'],
    row: Float32[np.ndarray, ' z'],
    fine: Float32[np.ndarray, 'X Y Z'],
) -> None:
    """Write values between centres: 3/4 of the nearer and 1/4 of the farther one on each axis."""
    near, far = np.float32(0.75), np.float32(0.25)
    nx, ny, nz = values.shape
    for x in range(2 * nx):
        i, k = x // 2, min(max(x // 2 + 2 * (x % 2) - 1, 0), nx - 1)
        for y in range(2 * ny):
            j, m = y // 2, min(max(y // 2 + 2 * (y % 2) - 1, 0), ny - 1)
            for z in range(nz):
                inner = near * values[i, j, z] + far * values[i, m, z]
                outer = near * values[k, j, z] + far * values[k, m, z]
                row[z] = near * inner + far * outer
            for z in range(nz):
                fine[x, y, 2 * z] = near * row[z] + far * row[max(z - 1, 0)]
                fine[x, y, 2 * z + 1] = near * row[z] + far * row[min(z + 1, nz - 1)]


@partial(compiled, rounding=('contract',))
def add_blurs(
    occupancy: Float32[np.ndarray, 'x y z'],
    x_matrices: Float32[np.ndarray, 'width x x'],
    y_matrices: Float32[np.ndarray, 'width y y'],
    z_matrices: Float32[np.ndarray, 'width z z'],
    lines: Float32[np.ndarray, 'width y z'],
    planes: Float32[np.ndarray, 'x width yz'],
    total: Float32[np.ndarray, 'x yz'],
) -> None:
    """Add the Gaussians of P to `total`; where P is zero, nothing is computed.

    Args:
        lines, planes: Workspaces.
    """
    nx = len(occupancy)
    first, last = nx, -1
    for i in range(nx):
        if _blur_plane(occupancy[i], y_matrices, z_matrices, lines, planes[i]):
            first, last = min(first, i), i
    for x in range(nx):
        for i in range(first, last + 1):
            for width in range(len(x_matrices)):
                weight = x_matrices[width, x, i]
                for cell in range(total.shape[1]):
                    total[x, cell] += weight * planes[i, width, cell]


@partial(inlined, early=True)
def _blur_plane(
    occupancy: Float32[np.ndarray, 'y z'],
    y_matrices: Float32[np.ndarray, 'width y y'],
    z_matrices: Float32[np.ndarray, 'width z z'],
    lines: Float32[np.ndarray, 'width y z'],
    plane: Float32[np.ndarray, 'width yz'],
) -> bool:
    """Write a plane smoothed along z, then along y; return whether there is any P."""
    ny, nz = occupancy.shape
    first, last = ny, -1
    lines[:] = np.float32(0.0)
    plane[:] = np.float32(0.0)
    for j in range(ny):
        for k in range(nz):
            share = occupancy[j, k]
            if share > np.float32(0.0):
                first, last = min(first, j), j
                for width in range(len(lines)):
                    for z in range(nz):
                        lines[width, j, z] += share * z_matrices[width, k, z]
    for width in range(len(lines)):
        for y in range(ny):
            for j in range(first, last + 1):
                weight = y_matrices[width, y, j]
                for z in range(nz):
                    plane[width, y * nz + z] += weight * lines[width, j, z]
    return last >= 0


@partial(compiled, rounding=('contract',))
def capsule_distance(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    reach: Float32[np.ndarray, 'x y'],
    farthest: float,
    distance: Float32[np.ndarray, 'x y z'],
) -> None:
    """Lower `distance` to that of each voxel's centre from the nearest capsule's surface.

    At p from the segment's start, with D its direction and t the nearest point's share of it:

        t = clip(p.D / D.D, 0, 1),  |p - t D|^2 = p.p + t (t D.D - 2 p.D)

    Args:
        starts, ends, radii: In voxels from the first one's centre.
        reach: In voxels, of each column; what is farther away stays as it is.
        farthest: The largest of them.
        distance: In voxels; negative inside.
    """
    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)
    nx, ny, nz = distance.shape[0], distance.shape[1], distance.shape[2] - BLOCK
    for capsule in range(len(radii)):
        a, b, r = starts[capsule], ends[capsule], radii[capsule]
        ax, ay, az, far = a[0], a[1], a[2], r + np.float32(farthest)
        dx, dy, dz = b[0] - ax, b[1] - ay, b[2] - az
        flat2 = max(dx * dx + dy * dy, np.float32(1e-12))
        length2 = max(flat2 + dz * dz, np.float32(1e-12))
        inverse = one / length2
        x0 = max(int(np.ceil(min(ax, b[0]) - far)), 0)
        x1 = min(int(max(ax, b[0]) + far) + 1, nx)
        y0 = max(int(np.ceil(min(ay, b[1]) - far)), 0)
        y1 = min(int(max(ay, b[1]) + far) + 1, ny)
        for x in range(x0, x1):
            px = np.float32(x) - ax
            for y in range(y0, y1):
                py = np.float32(y) - ay
                along, away2, limit = px * dx + py * dy, px * px + py * py, reach[x, y]
                u = min(max(along / flat2, zero), one)
                ex, ey = px - u * dx, py - u * dy
                left2 = (r + limit) * abs(r + limit) - ex * ex - ey * ey
                if left2 < zero:
                    continue
                left = np.sqrt(left2)
                z0 = max(int(np.ceil(min(az, b[2]) - left)), 0)
                z1 = min(int(max(az, b[2]) + left) + 1, nz)
                row = distance[x, y, z0 : z0 + (z1 - z0 + BLOCK - 1) // BLOCK * BLOCK]
                for offset in range(len(row)):
                    pz = np.float32(np.int32(z0 + offset)) - az
                    product = along + pz * dz
                    t = min(max(product * inverse, zero), one)
                    near2 = away2 + pz * pz + t * (t * length2 - two * product)
                    near = np.sqrt(max(near2, zero)) - r
                    row[offset] = near if near <= min(limit, row[offset]) else row[offset]


@compiled
def find_clearances(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    boxes: Float64[np.ndarray, 'future pose corners=6'],
    future_boxes: Float64[np.ndarray, 'future corners=6'],
    robot_starts: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_ends: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_radii: Float64[np.ndarray, 'robot robotpose link'],
    robot_boxes: Float64[np.ndarray, 'robot robotpose corners=6'],
    whole_boxes: Float64[np.ndarray, 'robot corners=6'],
    nearest: Float64[np.ndarray, 'robot future'],
) -> None:
    """Lower `nearest` to the clearance until the first contact."""
    still = robot_starts.shape[1] == 1
    for robot in range(len(robot_starts)):
        for future in range(len(starts)):
            if not _overlap(whole_boxes[robot], future_boxes[future]):
                continue
            for pose in range(starts.shape[1]):
                at = 0 if still else pose
                if not _overlap(robot_boxes[robot, at], boxes[future, pose]):
                    continue
                away = _clearance(
                    starts[future, pose], ends[future, pose], radii[future, pose],
                    robot_starts[robot, at], robot_ends[robot, at], robot_radii[robot, at],
                    robot_boxes[robot, at], nearest[robot, future],
                )  # fmt: skip
                if away < nearest[robot, future]:
                    nearest[robot, future] = away
                if away <= 0.0:
                    break


@inlined
def _overlap(
    one: Float64[np.ndarray, ' corners=6'], other: Float64[np.ndarray, ' corners=6']
) -> bool:
    for axis in range(3):
        if one[axis] > other[3 + axis] or other[axis] > one[3 + axis]:
            return False
    return True


@partial(inlined, early=True)
def _clearance(
    starts: Float64[np.ndarray, 'capsule xyz=3'],
    ends: Float64[np.ndarray, 'capsule xyz=3'],
    radii: Float64[np.ndarray, ' capsule'],
    robot_starts: Float64[np.ndarray, 'link xyz=3'],
    robot_ends: Float64[np.ndarray, 'link xyz=3'],
    robot_radii: Float64[np.ndarray, ' link'],
    box: Float64[np.ndarray, ' corners=6'],
    reach: float,
) -> float:
    """Return the distance of surfaces [m], of the first pair that meets; infinite beyond reach.

    Args:
        box: Around the robot, as far as it reaches.
    """
    nearest = np.inf
    for part in range(len(radii)):
        outside = False
        for axis in range(3):
            one, two = starts[part, axis], ends[part, axis]
            low, high = (one, two) if one < two else (two, one)
            outside |= low - radii[part] > box[3 + axis] or high + radii[part] < box[axis]
        if outside:
            continue
        for link in range(len(robot_radii)):
            square = squared_distance(
                starts[part], ends[part], robot_starts[link], robot_ends[link]
            )
            radius = radii[part] + robot_radii[link]
            if square <= (radius + reach) * (radius + reach):
                reach = nearest = np.sqrt(square) - radius
                if nearest <= 0.0:
                    return nearest
    return nearest


@inlined
def squared_distance(
    a: Float64[np.ndarray, ' xyz=3'],
    b: Float64[np.ndarray, ' xyz=3'],
    c: Float64[np.ndarray, ' xyz=3'],
    d: Float64[np.ndarray, ' xyz=3'],
) -> float:
    """Return the squared distance of the segments ab and cd [m^2].

    Source: Ericson, Real-Time Collision Detection, 5.1.9.
    """
    uu = vv = uv = uw = vw = 0.0
    for axis in range(3):
        u, v, w = b[axis] - a[axis], d[axis] - c[axis], a[axis] - c[axis]
        uu, vv, uv = uu + u * u, vv + v * v, uv + u * v
        uw, vw = uw + u * w, vw + v * w
    across = uu * vv - uv * uv
    s = (uv * vw - uw * vv) / across if across > 1e-12 * uu * vv else 0.0
    s = min(max(s, 0.0), 1.0)
    t = (uv * s + vw) / vv if vv > 0.0 else 0.0
    if t < 0.0 or t > 1.0 or vv == 0.0:
        t = min(max(t, 0.0), 1.0)
        s = min(max((uv * t - uw) / uu, 0.0), 1.0) if uu > 0.0 else 0.0
    square = 0.0
    for axis in range(3):
        apart = a[axis] - c[axis] + s * (b[axis] - a[axis]) - t * (d[axis] - c[axis])
        square += apart * apart
    return square
