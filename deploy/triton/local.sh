#!/usr/bin/env bash
# Runs NVIDIA's real tritonserver on a machine without GPU or Docker: the one that the wheel nvidia-pytriton carries
# (server 2.x with the Python backend only). For tests and trials; production runs NVIDIA's image (compose.yaml).
#
#     deploy/triton/local.sh [--torch] REPOSITORY [options of tritonserver]   runs in the foreground until it is ended
#     deploy/triton/local.sh [--torch] --setup                                only fetches what it needs, once (0.3 GB)
#
# --torch      fetches torch too, for what `export-triton --runtime torch` wrote: 0.2 GB where pip finds a build for CPUs
#              (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu), else several GB with libraries for GPUs
#
# examples:
#     denoise-gateway export-triton out/repository && deploy/triton/local.sh out/repository --grpc-port 8001
#     denoise-gateway export-triton out/torch --runtime torch && deploy/triton/local.sh --torch out/torch
#
# TRITON_HOME  where it is kept (.triton beside the Makefile)
# PYTHON       3.8 to 3.13 with its shared library; its models run in it (python3)
set -euo pipefail

SERVER="nvidia-pytriton==0.7.0"
# The backend hands out empty tensors, without an error, when it meets NumPy 2.
PACKAGES=("numpy<2" "onnxruntime>=1.20")
TORCH="torch==2.13.0"

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
home="${TRITON_HOME:-$root/.triton}"
python="${PYTHON:-python3}"

torch=false only_setup=false
while [ "${1:-}" = --torch ] || [ "${1:-}" = --setup ]; do
    [ "$1" = --torch ] && torch=true || only_setup=true
    shift
done
if [ "${1:-}" = --help ] || { [ $# -eq 0 ] && ! $only_setup; }; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
fi

version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
libraries="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')"
if ! ls "$libraries"/libpython"$version".so.1.0 /usr/lib/*/libpython"$version".so.1.0 >/dev/null 2>&1; then
    echo "local.sh: no libpython$version.so.1.0; on Debian: apt-get install libpython$version" >&2
    exit 2
fi

setup() {
    echo "local.sh: fetching $SERVER and ${PACKAGES[*]} into $home ..." >&2
    rm -rf "$home"
    mkdir -p "$home"
    "$python" -m venv "$home/venv"
    "$home/venv/bin/python" -m pip install -q --disable-pip-version-check "${PACKAGES[@]}"
    # Not installed: its requirements clash with a current tritonclient.
    "$home/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps -d "$home" "$SERVER"
    "$python" -m zipfile -e "$home"/nvidia_pytriton-*.whl "$home/wheel"
    rm "$home"/nvidia_pytriton-*.whl
    local server="$home/wheel/pytriton/tritonserver"
    cp "$server/python_backend_stubs/$version/triton_python_backend_stub" "$server/backends/python/"
    chmod +x "$server/bin/tritonserver" "$server/backends/python/triton_python_backend_stub"
    echo "$version" >"$home/ready"
}

mkdir -p "$(dirname "$home")"
exec 9>"$home.lock" # two at a time would tear the folder from each other
flock 9
[ "$(cat "$home/ready" 2>/dev/null)" = "$version" ] || setup
if $torch && ! ls "$home"/venv/lib/python"$version"/site-packages/torch-*.dist-info/RECORD >/dev/null 2>&1; then
    echo "local.sh: fetching $TORCH into $home ..." >&2
    "$home/venv/bin/python" -m pip install -q --disable-pip-version-check "$TORCH" "${PACKAGES[@]}"
fi
exec 9>&-
! $only_setup || exit 0

repository="$1"
shift
if [ ! -d "$repository" ]; then
    echo "local.sh: $repository is no folder; make one: denoise-gateway export-triton $repository" >&2
    exit 2
fi
server="$home/wheel/pytriton/tritonserver"
export LD_LIBRARY_PATH="$home/wheel/nvidia_pytriton.libs:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$home/venv/bin:$PATH"
export PYTHONPATH="$home/venv/lib/python$version/site-packages"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
# glibc keeps freed memory: the arrays of a batch are as large as those of the last, and their pages would fault in anew.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-67108864}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-268435456}"
exec "$server/bin/tritonserver" --model-repository "$repository" --backend-directory "$server/backends" \
    --disable-auto-complete-config --exit-on-error=false --allow-http=false --allow-metrics=false --exit-timeout-secs 3 "$@"
