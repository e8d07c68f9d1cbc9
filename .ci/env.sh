#!/usr/bin/env bash
# Make .venv: Python tools, torch and ROS 2 from PyPI, our interfaces generated into it, and the
# source tree on its path. Does nothing when it is up to date; starts anew after an interruption.
# usage: .ci/env.sh            (PYTHON=python3.12 .ci/env.sh for another interpreter)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv
python=${PYTHON:-python3}
package=motion_predictor_ros

# A sourced ROS, another virtual environment or a calling make must not leak into the build.
unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH PYTHONHOME
unset ROS_DISTRO ROS_VERSION RMW_IMPLEMENTATION VIRTUAL_ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE
unset MAKEFLAGS MAKELEVEL MFLAGS

fail() {
  printf 'make env: %s\n' "$*" >&2
  exit 1
}

say() {
  printf 'make env: %s (%ss)\n' "$*" "$SECONDS"
}

hash_of() {
  sha256sum "$@" | sha256sum | cut -d' ' -f1
}

need() { # command, Debian package
  command -v "$1" > /dev/null || missing+=("$2")
}

check_prerequisites() {
  local missing=()
  [ "$(uname -sm)" = 'Linux x86_64' ] ||
    fail "the ROS 2 wheels exist for x86-64 Linux only, this is $(uname -sm)"
  need "$python" python3
  need gcc gcc
  need g++ g++
  need cmake cmake
  need make make
  if command -v "$python" > /dev/null; then
    "$python" -c 'import venv, ensurepip' 2> /dev/null || missing+=(python3-venv)
  fi
  [ ${#missing[@]} = 0 ] || fail "missing; on Debian or Ubuntu: apt install ${missing[*]}"
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' ||
    fail "needs Python 3.11 to 3.14, $python is $("$python" -V); set PYTHON=python3.12, say"
}

# Lock: two runs at once (two shells, two checkouts' tests) take turns.
exec 9< "$root"
if command -v flock > /dev/null; then flock 9; fi

begun=$venv/.begun        # this environment is ours to delete
installed=$venv/.installed  # hash of what pip installed, written last
generated=$venv/.generated  # hash of what CMake read, written last

want_installed=$( (hash_of requirements-ros.txt requirements-dev.txt .ci/env.sh
  printf '%s\n' "$root" "$(command -v "$python" || true)") | sha256sum | cut -d' ' -f1)
shopt -s nullglob
want_generated=$want_installed-$(hash_of msg/*.msg srv/*.srv CMakeLists.txt package.xml setup.py \
  requirements.txt $package/__init__.py)

[ "$(cat "$installed" 2> /dev/null || true)" != "$want_installed" ] && stale_pip=1 || stale_pip=
[ "$(cat "$generated" 2> /dev/null || true)" != "$want_generated" ] && stale_cmake=1 || stale_cmake=
[ -n "$stale_pip$stale_cmake" ] || exit 0
check_prerequisites

quietly() { # log, command...: show the log's end only if the command fails
  local log=$1
  shift
  "$@" > "$log" 2>&1 || {
    tail -n 40 "$log" >&2
    fail "failed: $* (see $log)"
  }
}

pip_install() {
  quietly "$venv/pip.log" "$venv/bin/python" -m pip install --disable-pip-version-check \
    --no-input --progress-bar off --no-compile "$@"
}

# The wheels' CMake files name the Python and numpy headers of the machine that built them.
repair_include_paths() {
  "$venv/bin/python" - << 'PY'
import pathlib, re, sys, sysconfig

import numpy

built = r'/opt/python/cp\d+-cp\d+'
python_include, numpy_include = sysconfig.get_paths()['include'], numpy.get_include()
for path in pathlib.Path(sys.prefix, 'share').glob('*/cmake/*.cmake'):
    text = path.read_text()
    fixed = re.sub(built + r'/lib/python[\d.]+/site-packages/numpy/_?core/include', numpy_include, text)
    fixed = re.sub(built + r'/include/python[\d.]+', python_include, fixed)
    if fixed != text:
        path.write_text(fixed)
PY
}

generate_interfaces() {
  local site share=$venv/share/$package folder
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  export VIRTUAL_ENV=$venv AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv PATH=$venv/bin:$PATH
  # Message types that no longer exist must not linger.
  rm -rf "$site/$package" "$share" "$venv/lib/$package" "$venv/include/$package"
  quietly "$venv/cmake.log" cmake -S "$root" -B "$venv/build" -G 'Unix Makefiles' \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$venv" -DINTERFACES_ONLY=ON \
    -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$venv/bin/python"
  quietly "$venv/build.log" cmake --build "$venv/build" --target install -j "$(nproc)"
  # The generated package becomes a namespace portion, which the source tree's __init__.py joins.
  rm -rf "$site/$package/__init__.py" "$site/$package/__pycache__"
  printf '%s\n' "$root" \
    'import os, sys; os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(dict.fromkeys([sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]))' \
    > "$site/$package.pth"
  # A shebang holds neither spaces nor long paths; sh and Python both read this one.
  for script in "$venv/lib/$package"/* "$venv/bin/motion-predictor"; do
    sed -i "1c #!/bin/sh\n'''exec' \"$venv/bin/python\" \"\$0\" \"\$@\"\n' '''" "$script"
  done
  for folder in config launch weights; do
    ln -sfn "$root/$folder" "$share/$folder"
  done
}

if [ -n "$stale_pip" ]; then
  if [ -e "$venv" ] && [ ! -e "$begun" ]; then
    fail ".venv exists but was not made by this script; move it away"
  fi
  rm -rf "$venv"
  mkdir "$venv"
  touch "$begun"
  say 'creating .venv'
  "$python" -m venv "$venv"
  say 'installing ROS 2'
  pip_install -r requirements-ros.txt
  repair_include_paths
  say 'installing torch and tools, generating the interfaces'
  generate_interfaces &
  job=$!
  pip_install -r requirements-dev.txt
  wait "$job" || fail 'the interfaces could not be generated'
  printf '%s\n' "$want_installed" > "$installed"
else
  rm -f "$generated"
  say 'generating the interfaces'
  (generate_interfaces)
fi
printf '%s\n' "$want_generated" > "$generated"
say 'done'
