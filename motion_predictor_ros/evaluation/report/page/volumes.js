// SPDX-License-Identifier: Apache-2.0
// Draws voxels and footprints of the space to keep free on a 2-D canvas.
//
// Reads what evaluation/report/volume_data.py packed: grids of levels, written in runs. A voxel's level is
// how many of `levels` its probability reaches, so that a threshold is a level. Only faces between
// a voxel that is shown and one that is not are drawn, far ones first, if they look at the eye.
'use strict';
const makeVolumes = (packed, origin, unpack) => {
  const MOST_CACHED = 60;
  const ALPHA_TOP = 0.55;
  const ALPHA_SIDE = 0.32;
  const cache = new Map();

  // Levels of every voxel of a grid, last axis fastest.
  function readRuns(text, count) {
    const bytes = unpack(text, Uint8Array);
    const levels = new Uint8Array(count);
    let at = 0;
    for (let byte = 0; byte < bytes.length; byte += 1) {
      const level = bytes[byte] >> 4;
      let length = (bytes[byte] & 15) + 1;
      if (length === 16) {
        length = bytes[byte + 1] + 256 * bytes[byte + 2];
        byte += 2;
      }
      levels.fill(level, at, at + length);
      at += length;
    }
    return levels;
  }

  function read(grid) {
    const known = cache.get(grid);
    if (known) return known;
    const [size, x, y, z, nx, ny, nz, text] = grid;
    const corner = [x, y, z].map((place, axis) => place * size - origin[axis]);
    const found = { size, corner, shape: [nx, ny, nz], levels: readRuns(text, nx * ny * nz) };
    if (cache.size >= MOST_CACHED) cache.delete(cache.keys().next().value);
    cache.set(grid, found);
    return found;
  }

  // Level at a place; 0 outside the grid.
  function levelAt(grid, i, j, k) {
    const [nx, ny, nz] = grid.shape;
    if (i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz) return 0;
    return grid.levels[(i * ny + j) * nz + k];
  }

  // Faces as [i, j, k, axis, level]: between voxels k-1 and k along the axis, seen from the eye.
  function faces(grid, least, view) {
    const found = [];
    const [nx, ny, nz] = grid.shape;
    const eye = [0, 1, 2].map((axis) =>
      (view.target[axis] + view.distance * view.toEye[axis] - grid.corner[axis]) / grid.size,
    );
    for (let i = 0; i < nx; i += 1) {
      for (let j = 0; j < ny; j += 1) {
        for (let k = 0; k < nz; k += 1) {
          const level = levelAt(grid, i, j, k);
          if (level < least) continue;
          const at = [i, j, k];
          for (let axis = 0; axis < 3; axis += 1) {
            const side = eye[axis] > at[axis] + 1 ? 1 : eye[axis] < at[axis] ? -1 : 0;
            const beside = [i, j, k];
            beside[axis] += side;
            if (!side || levelAt(grid, ...beside) >= least) continue;
            const face = [i, j, k, axis, level];
            if (side > 0) face[axis] += 1;
            found.push(face);
          }
        }
      }
    }
    return found;
  }

  // Returns (i, j, k) -> {x, y, depth} for places of a grid, without making vectors on the way.
  function lattice(grid, view) {
    const along = (vector) => {
      const parts = vector.map((part) => part * grid.size);
      const start = vector.reduce(
        (total, part, axis) => total + part * (grid.corner[axis] - view.target[axis]),
        0,
      );
      return (i, j, k) => start + parts[0] * i + parts[1] * j + parts[2] * k;
    };
    const [right, above, near] = [view.right, view.above, view.toEye].map(along);
    return (i, j, k) => {
      const depth = view.distance - near(i, j, k);
      const scale = view.focal / depth;
      return {
        x: view.width / 2 + scale * right(i, j, k),
        y: view.height / 2 - scale * above(i, j, k),
        depth,
      };
    };
  }

  const SIDES = [[[0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]]];

  function polygons(grid, least, view) {
    const spot = lattice(grid, view);
    const found = [];
    for (const [i, j, k, axis, level] of faces(grid, least, view)) {
      const [u, v] = SIDES[axis];
      const corners = [
        spot(i, j, k),
        spot(i + u[0], j + u[1], k + u[2]),
        spot(i + u[0] + v[0], j + u[1] + v[1], k + u[2] + v[2]),
        spot(i + v[0], j + v[1], k + v[2]),
      ];
      if (corners.some((corner) => corner.depth < 0.1)) continue;
      const depth = corners[0].depth + corners[2].depth;
      found.push({ corners, depth, colour: packed.colours[level - 1], top: axis === packed.up_axis });
    }
    return found;
  }

  function trace(pen, corners) {
    pen.moveTo(corners[0].x, corners[0].y);
    for (const corner of corners.slice(1)) pen.lineTo(corner.x, corner.y);
    pen.closePath();
  }

  // Voxels of several people, at least as likely as a level.
  function drawVoxels(pen, view, grids, least) {
    const all = grids.filter(Boolean).flatMap((grid) => polygons(read(grid), least, view));
    all.sort((a, b) => b.depth - a.depth);
    for (const { corners, colour, top } of all) {
      pen.globalAlpha = top ? ALPHA_TOP : ALPHA_SIDE;
      pen.fillStyle = colour;
      pen.beginPath();
      trace(pen, corners);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  // Footprints on the floor, `floor` metres along `up`.
  function drawKeep(pen, view, grids, floor, colour) {
    const axis = packed.up_axis;
    for (const packedGrid of grids.filter(Boolean)) {
      const grid = read(packedGrid);
      const flat = { ...grid, corner: [...grid.corner] };
      flat.corner[axis] = floor;
      outline(pen, colour, flat, lattice(flat, view), [0, 1, 2].filter((each) => each !== axis));
    }
  }

  function outline(pen, colour, grid, spot, [first, second]) {
    const at = (a, b) => {
      const place = [0, 0, 0];
      place[first] = a;
      place[second] = b;
      return place;
    };
    const inside = (a, b) => levelAt(grid, ...at(a, b)) > 0;
    const edge = (a, b, c, d) => {
      const [from, to] = [spot(...at(a, b)), spot(...at(c, d))];
      if (from.depth < 0.1 || to.depth < 0.1) return;
      pen.moveTo(from.x, from.y);
      pen.lineTo(to.x, to.y);
    };
    pen.strokeStyle = colour;
    pen.setLineDash([]);
    pen.lineWidth = 2.5 * (window.devicePixelRatio || 1);
    pen.beginPath();
    for (let a = 0; a <= grid.shape[first]; a += 1) {
      for (let b = 0; b <= grid.shape[second]; b += 1) {
        if (inside(a, b) !== inside(a - 1, b)) edge(a, b, a, b + 1);
        if (inside(a, b) !== inside(a, b - 1)) edge(a, b, a + 1, b);
      }
    }
    pen.stroke();
  }

  return { drawVoxels, drawKeep };
};
