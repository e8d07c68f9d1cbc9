// SPDX-License-Identifier: Apache-2.0
// Replays a bag on a 2-D canvas: one can orbit, zoom, scrub and play.
//
// Reads the JSON that evaluation/report/replay_data.py packed; volumes.js draws voxels. Positions are int16 multiples of `step_m`
// around `origin_m`; -32768 means that a joint is not known. Lines are drawn far ones first.
'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('replay-data').textContent);
  const canvas = byId('replay');
  const pen = canvas.getContext('2d');
  const slider = byId('scrub');
  const joints = data.joints.length;
  const ghosts = data.ghosts_s.length;
  const UNKNOWN = -32768;
  const LARGEST_GAP_MS = 200; // the truth is not interpolated across more than this
  const OBSERVED = '#111111';
  const OBSERVED_WIDTH_M = 0.035;
  const GHOST_WIDTH_M = 0.018;
  const FUTURE_WIDTH_M = 0.009;

  // ---- what was packed --------------------------------------------------------------------

  function unpack(text, Type) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  const times = unpack(data.times_ms, Int32Array);
  const people = data.people.map((packed) => {
    const scenes = unpack(packed.scenes, Int32Array);
    return {
      id: packed.id,
      scenes,
      rowOf: new Map(Array.from(scenes, (scene, row) => [scene, row])),
      observed: unpack(packed.observed, Int16Array),
      ghosts: unpack(packed.ghosts, Int16Array),
      validity: unpack(packed.validity, Uint8Array),
      futureScenes: unpack(packed.future_scenes, Int32Array),
      futures: unpack(packed.futures, Int16Array),
      volumes: data.volumes ? data.volumes.people[packed.key] : null,
    };
  });
  const volumes = data.volumes && makeVolumes(data.volumes, data.origin_m, unpack);
  const futures = data.future_colours.length;
  const HOLD_MS = data.volumes ? data.volumes.hold_ms : 300;

  // The last of some scenes that is not later than this one, if it is not too old; else -1.
  function held(scenes, scene) {
    let found = -1;
    while (found + 1 < scenes.length && scenes[found + 1] <= scene) found += 1;
    return found >= 0 && times[scene] - times[scenes[found]] <= HOLD_MS ? found : -1;
  }

  // One pose as [x, y, z] in metres by joint, null where it is not known.
  function pose(values, index) {
    const found = [];
    for (let joint = 0; joint < joints; joint += 1) {
      const at = 3 * (index * joints + joint);
      const known = values[at] !== UNKNOWN;
      found.push(known ? [0, 1, 2].map((axis) => values[at + axis] * data.step_m) : null);
    }
    return found;
  }

  const observedPose = (person, row) => pose(person.observed, row);
  const ghostPose = (person, row, ghost) => pose(person.ghosts, row * ghosts + ghost);

  // Where somebody was seen at a time, between two observations; null if they were not.
  function truthPose(person, timeMs) {
    const after = person.scenes.findIndex((scene) => times[scene] >= timeMs);
    if (after < 0) return null;
    const late = times[person.scenes[after]];
    if (late === timeMs) return observedPose(person, after);
    if (after === 0) return null;
    const early = times[person.scenes[after - 1]];
    if (late - early > Math.max(LARGEST_GAP_MS, 1.5 * data.interval_ms)) return null;
    const part = (timeMs - early) / (late - early);
    const [a, b] = [observedPose(person, after - 1), observedPose(person, after)];
    return a.map((from, joint) => {
      const to = b[joint];
      return from && to ? from.map((value, axis) => value + part * (to[axis] - value)) : null;
    });
  }

  // ---- the camera -------------------------------------------------------------------------

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  ];
  const sum = (...terms) =>
    [0, 1, 2].map((axis) => terms.reduce((total, [k, v]) => total + k * v[axis], 0));

  const up = data.up;
  const ahead = Math.abs(up[0]) > 0.5 ? [0, 1, 0] : [1, 0, 0]; // across `up`, an axis of the frame
  const aside = cross(up, ahead);
  const camera = { turn: -1.05, tilt: 0.25, distance: 4, target: [0, 0, 0] };

  function makeView() {
    const { turn, tilt, distance, target } = camera;
    const flat = sum([Math.cos(turn), ahead], [Math.sin(turn), aside]);
    const toEye = sum([Math.cos(tilt), flat], [Math.sin(tilt), up]);
    const right = cross(up, flat);
    const above = cross(toEye, right);
    const { width, height } = canvas;
    const focal = 1.1 * Math.min(width, height);
    return { toEye, right, above, focal, distance, target, width, height };
  }

  function makeProjection({ toEye, right, above, focal, distance, target }) {
    return (point) => {
      const from = sum([1, point], [-1, target]);
      const depth = distance - dot(from, toEye);
      if (depth < 0.1) return null;
      return {
        x: canvas.width / 2 + (focal * dot(from, right)) / depth,
        y: canvas.height / 2 - (focal * dot(from, above)) / depth,
        perMetre: focal / depth,
        depth,
      };
    };
  }

  // ---- drawing ----------------------------------------------------------------------------

  function addBones(lines, project, points, colour, widthM, dashed) {
    const seen = points.map((point) => point && project(point));
    for (const [parent, child] of data.bones) {
      const [a, b] = [seen[parent], seen[child]];
      if (a && b) lines.push({ a, b, colour, widthM, dashed, depth: a.depth + b.depth });
    }
  }

  function drawLine({ a, b, colour, widthM, dashed }) {
    const width = Math.max(1, (widthM * (a.perMetre + b.perMetre)) / 2);
    pen.lineWidth = dashed ? Math.max(1, width / 2) : width;
    pen.setLineDash(dashed ? [2 * width, 2 * width] : []);
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.moveTo(a.x, a.y);
    pen.lineTo(b.x, b.y);
    pen.stroke();
  }

  function drawFloor(project) {
    const level = floorLevel - dot(camera.target, up);
    const half = 5;
    const snap = (axis) => Math.round(dot(camera.target, axis)) - dot(camera.target, axis);
    const spot = (i, j) =>
      project(
        sum([1, camera.target], [level, up], [snap(ahead) + i, ahead], [snap(aside) + j, aside]),
      );
    for (let i = -half; i <= half; i += 1) {
      for (let j = -half; j < half; j += 1) {
        for (const [a, b] of [[spot(i, j), spot(i, j + 1)], [spot(j, i), spot(j + 1, i)]]) {
          if (a && b) drawLine({ a, b, colour: '#dddddd', widthM: 0 });
        }
      }
    }
  }

  function drawLabel(project, person, row, points) {
    const known = points.filter(Boolean);
    if (!known.length) return;
    const top = known.reduce((a, b) => (dot(b, up) > dot(a, up) ? b : a));
    const at = project(sum([1, top], [0.18, up]));
    if (!at) return;
    const validity = data.validities[person.validity[row]];
    pen.fillStyle = validity === 'OK' ? '#333333' : '#b00020';
    pen.font = `${13 * scale()}px system-ui, sans-serif`;
    pen.textAlign = 'center';
    pen.fillText(validity === 'OK' ? person.id : `${person.id}: ${validity}`, at.x, at.y);
  }

  function addFutures(lines, project, person) {
    const slot = held(person.futureScenes, scene);
    for (let future = 0; slot >= 0 && future < futures; future += 1) {
      const points = pose(person.futures, slot * futures + future);
      addBones(lines, project, points, data.future_colours[future], FUTURE_WIDTH_M, false);
    }
  }

  function drawVolumes(view, present) {
    const shown = present
      .map(([person]) => person.volumes)
      .filter(Boolean)
      .map((own) => [own, held(own.scenes, scene)])
      .filter(([, slot]) => slot >= 0);
    const at = Number(byId('window').value);
    const of = (name) => shown.map(([own, slot]) => own[name][slot][at]);
    const up_axis = data.volumes.up_axis;
    const floor = floorLevel * up[up_axis];
    if (byId('show-keep').checked) volumes.drawKeep(pen, view, of('keep'), floor, '#00798c');
    if (byId('show-other').checked) volumes.drawKeep(pen, view, of('other'), floor, '#2e9e5b');
    const least = Number(byId('threshold').value) + 1;
    if (byId('show-voxels').checked) volumes.drawVoxels(pen, view, of('voxels'), least);
    byId('least').textContent = `${Math.round(100 * data.volumes.levels[least - 1])} %`;
  }

  function addPerson(lines, project, person, row) {
    if (byId('show-futures').checked) addFutures(lines, project, person);
    const points = observedPose(person, row);
    addBones(lines, project, points, OBSERVED, OBSERVED_WIDTH_M, false);
    for (let ghost = 0; ghost < ghosts; ghost += 1) {
      const colour = data.ghost_colours[ghost];
      if (byId('show-ghosts').checked) {
        addBones(lines, project, ghostPose(person, row, ghost), colour, GHOST_WIDTH_M, false);
      }
      const truth =
        byId('show-truth').checked &&
        truthPose(person, times[scene] + Math.round(1000 * data.ghosts_s[ghost]));
      if (truth) addBones(lines, project, truth, colour, GHOST_WIDTH_M, true);
    }
    return points;
  }

  function draw() {
    const present = people
      .map((person) => [person, person.rowOf.get(scene)])
      .filter(([, row]) => row !== undefined);
    if (byId('follow').checked) follow(present);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = '#ffffff';
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.lineCap = 'round';
    const view = makeView();
    const project = makeProjection(view);
    drawFloor(project);
    if (volumes) drawVolumes(view, present);
    const lines = [];
    const poses = present.map(([person, row]) => addPerson(lines, project, person, row));
    lines.sort((a, b) => b.depth - a.depth).forEach(drawLine);
    present.forEach(([person, row], at) => drawLabel(project, person, row, poses[at]));
    byId('readout').textContent = `${(times[scene] / 1000).toFixed(2)} s`;
  }

  function centre(points) {
    const known = points.filter(Boolean);
    return known.length ? sum(...known.map((point) => [1 / known.length, point])) : null;
  }

  function follow(present) {
    const middle = centre(present.map(([person, row]) => centre(observedPose(person, row))));
    if (middle) camera.target = middle;
  }

  // ---- where to begin ---------------------------------------------------------------------

  const quantile = (values, part) => values.sort((a, b) => a - b)[Math.floor(part * values.length)];

  function everyTenth(measure) {
    const found = [];
    for (let at = 0; at < times.length; at += 10) {
      const seen = people.filter((person) => person.rowOf.has(at));
      if (seen.length) found.push(measure(seen.map((p) => observedPose(p, p.rowOf.get(at)))));
    }
    return found.filter(Number.isFinite);
  }

  const lowest = (poses) => Math.min(...poses.flat().filter(Boolean).map((p) => dot(p, up)));
  function radius(poses) {
    const known = poses.flat().filter(Boolean);
    const middle = centre(known);
    return Math.max(...known.map((point) => Math.hypot(...sum([1, point], [-1, middle]))));
  }

  const floorLevel = quantile(everyTenth(lowest), 0.5) || 0;
  camera.distance = Math.max(volumes ? 3.4 : 2.6, 1.4 * (quantile(everyTenth(radius), 0.95) || 1));
  const begin = { ...camera };

  // ---- what a person does -----------------------------------------------------------------

  const scale = () => window.devicePixelRatio || 1;
  let scene = 0;
  let playing = false;
  let playMs = times[0];
  let lastMs = 0;

  function show(next) {
    scene = Math.min(Math.max(next, 0), times.length - 1);
    slider.value = scene;
    draw();
  }

  // The last scene that is not later.
  function sceneAt(timeMs) {
    let found = 0;
    while (found + 1 < times.length && times[found + 1] <= timeMs) found += 1;
    return found;
  }

  function setPlaying(next) {
    playing = next;
    byId('play').textContent = playing ? 'Pause' : 'Play';
    if (!playing) return;
    if (scene === times.length - 1) show(0);
    playMs = times[scene];
    lastMs = performance.now();
    requestAnimationFrame(advance);
  }

  function advance(nowMs) {
    if (!playing) return;
    playMs += Math.max(0, nowMs - lastMs) * Number(byId('speed').value);
    lastMs = nowMs;
    const next = sceneAt(playMs);
    if (next !== scene) show(next);
    if (next === times.length - 1) setPlaying(false);
    else requestAnimationFrame(advance);
  }

  function resize() {
    canvas.width = Math.round(canvas.clientWidth * scale());
    canvas.height = Math.round(canvas.clientHeight * scale());
    draw();
  }

  function orbit(event) {
    if (!(event.buttons & 1)) return;
    camera.turn -= 0.008 * event.movementX;
    camera.tilt = Math.min(Math.max(camera.tilt + 0.008 * event.movementY, -1.5), 1.5);
    draw();
  }

  function zoom(event) {
    event.preventDefault();
    const factor = Math.exp(0.001 * event.deltaY);
    camera.distance = Math.min(Math.max(camera.distance * factor, 0.8), 60);
    draw();
  }

  function key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(scene + step);
    else if (event.key === ' ') setPlaying(!playing);
    else return;
    event.preventDefault();
  }

  slider.max = times.length - 1;
  slider.addEventListener('input', () => {
    setPlaying(false);
    show(Number(slider.value));
  });
  byId('play').addEventListener('click', () => setPlaying(!playing));
  const SWITCHES = ['ghosts', 'truth', 'futures', 'voxels', 'keep', 'other'].map((name) => `show-${name}`);
  for (const id of [...SWITCHES, 'follow', 'window']) byId(id).addEventListener('change', draw);
  byId('threshold').addEventListener('input', draw);
  canvas.addEventListener('pointerdown', (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener('pointermove', orbit);
  canvas.addEventListener('wheel', zoom, { passive: false });
  canvas.addEventListener('dblclick', () => {
    Object.assign(camera, begin);
    draw();
  });
  canvas.addEventListener('keydown', key);
  window.addEventListener('resize', resize);
  data.ghosts_s.forEach((horizon, ghost) => {
    const mark = document.createElement('span');
    mark.className = 'mark';
    mark.style.borderColor = data.ghost_colours[ghost];
    mark.textContent = `+${horizon.toFixed(2)} s`;
    byId('legend').append(mark);
  });
  byId('futures').hidden = !futures;
  byId('futures-mark').style.borderColor = data.future_colours[0];
  byId('futures-text').textContent = `may be, +${data.futures_s.toFixed(2)} s (dark: likely)`;
  byId('volumes').hidden = !volumes;
  for (const [at, [from, to]] of (volumes ? data.volumes.windows_s : []).entries()) {
    byId('window').add(new Option(`${from} to ${to} s`, at, true, true));
  }
  const promises = volumes ? data.volumes.promises : ['', ''];
  byId('keep-text').textContent = `footprint of the keep-out volume: ${promises[0]}`;
  byId('other-text').textContent = promises[1];
  if (volumes) byId('voxel-size').textContent = `(${data.volumes.voxel_m} m)`;
  byId('threshold').max = volumes ? data.volumes.levels.length - 1 : 0;
  byId('threshold').value = 5;
  const goToAddress = () => show(sceneAt(1000 * Number(location.hash.slice(1)) || 0));
  window.addEventListener('hashchange', goToAddress);
  resize();
  goToAddress();
})();
