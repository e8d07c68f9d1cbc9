#!/usr/bin/env bash
# Run the tests of models, kernels and volumes as on arm64, by user-mode emulation.
# Needs debootstrap and qemu-user-static (apt install), root for chroot, and 3 GB in BUILD.
# usage: .ci/arm64.sh [test...]       (BUILD=folder: default build/arm64)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD:-$PWD/build/arm64}
root=$build/root wheels=$build/wheels
suite=${DEBIAN:-bookworm} python=3.11
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(test/prediction test/density test/volume)

command -v debootstrap > /dev/null && command -v qemu-aarch64-static > /dev/null || {
  echo 'make arm64: missing; on Debian or Ubuntu: apt install debootstrap qemu-user-static' >&2
  exit 1
}

mkdir -p "$wheels"
if [ ! -e "$build/.root" ]; then
  # Unpacked, not configured: nothing but an interpreter and its libraries is needed.
  rm -rf "$root"
  debootstrap --foreign --arch=arm64 --variant=minbase \
    --include="python$python,libpython$python-stdlib,libgomp1,libstdc++6,zlib1g,libexpat1" "$suite" "$root"
  for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  cp "$(command -v qemu-aarch64-static)" "$root/usr/bin/"
  touch "$build/.root"
fi
if [ ! -e "$build/.wheels" ]; then
  # The versions that make env installs, but for what only x86-64 has.
  names='torch|numpy|scipy|numba|llvmlite|threadpoolctl|safetensors|jaxtyping|wadler_lindig|beartype|rich|markdown-it-py|mdurl|pygments'
  names+='|pytest|iniconfig|packaging|pluggy|hypothesis|sortedcontainers|pyyaml|tqdm|transforms3d'
  names+='|filelock|fsspec|jinja2|markupsafe|mpmath|networkx|sympy|typing_extensions'
  # Newer torch wheels for arm64 on PyPI need CUDA's libraries.
  .venv/bin/pip freeze | grep -iE "^($names)==" | sed 's/^torch==.*/torch==2.8.0/' > "$build/requirements.txt"
  .venv/bin/pip install --quiet --no-deps --target "$root/opt/site" --only-binary=:all: --upgrade \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --platform linux_aarch64 --implementation cp --python-version "$python" \
    --requirement "$build/requirements.txt"
  touch "$build/.wheels"
fi

rm -rf "$root/opt/package"
mkdir -p "$root/opt/package"
git ls-files -z | xargs -0 cp --parents -t "$root/opt/package"
# qemu is called by name: it needs no entry in the kernel's binfmt_misc.
exec env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/bin LANG=C.UTF-8 \
  PYTHONPATH=/opt/package:/opt/package/test:/opt/site NUMBA_CACHE_DIR=/tmp/numba OMP_NUM_THREADS=1 \
  chroot "$root" /usr/bin/qemu-aarch64-static "/usr/bin/python$python" -c \
  'import os, sys; os.chdir("/opt/package"); import pytest; sys.exit(pytest.main(sys.argv[1:]))' \
  -q -p no:cacheprovider "${tests[@]}"
