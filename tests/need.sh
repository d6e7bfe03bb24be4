# What a bare Debian lacks to build and test, installed where we may.  need COMMAND:PACKAGE …   sourced by the scripts
need() {
    missing=
    for pair; do command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"; done
    [ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
    python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
    [ -n "$missing" ] || return 0
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null ||
            { echo "needed first, as root:  apt-get update && apt-get install -y --no-install-recommends$missing"; return 3; }
    fi
    echo "installing:$missing"
    # shellcheck disable=SC2086
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Sets DGC_PTXAS to a ptxas from PyPI in build/venv where the machine has none; silent and harmless without a network.
need_ptxas() {
    [ -z "${DGC_PTXAS:-}" ] || return 0
    "$1" doctor --has=ptxas >/dev/null 2>&1 && return 0
    found=$(ls build/venv/lib/python3*/site-packages/nvidia/cu1?/bin/ptxas 2>/dev/null | tail -1)
    if [ -z "$found" ] && [ -z "${DGC_OFFLINE:-}" ] && command -v python3 >/dev/null; then
        python3 -m venv build/venv >/dev/null 2>&1 &&
            # One release, so that what is said of registers does not change with the day.
            timeout 120 build/venv/bin/pip install -q --no-deps --retries 1 --timeout 10 'nvidia-cuda-nvcc>=13.0,<13.1' >/dev/null 2>&1
        found=$(ls build/venv/lib/python3*/site-packages/nvidia/cu1?/bin/ptxas 2>/dev/null | tail -1)
    fi
    [ -n "$found" ] || return 0
    DGC_PTXAS=$PWD/$found; export DGC_PTXAS
}

# Sets NVDISASM to a disassembler of machine code from PyPI where the machine has none; only `make report` asks for it.
need_nvdisasm() {
    [ -z "${NVDISASM:-}" ] || return 0
    command -v nvdisasm >/dev/null 2>&1 && return 0
    if [ -z "$(ls build/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvdisasm 2>/dev/null)" ] && [ -z "${DGC_OFFLINE:-}" ]; then
        python3 -m venv build/venv >/dev/null 2>&1 &&
            timeout 120 build/venv/bin/pip install -q --no-deps --retries 1 --timeout 10 nvidia-cuda-nvdisasm >/dev/null 2>&1
    fi
    found=$(ls "$PWD"/build/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvdisasm 2>/dev/null | tail -1)
    [ -n "$found" ] || { echo "no nvdisasm: pip install nvidia-cuda-nvdisasm, and NVDISASM=PATH"; return 3; }
    NVDISASM=$found; export NVDISASM
}

# Sets PYTHON to a Python with numpy and pytest: the machine's, else one in build/venv. Unset where neither can be had.
need_python() {
    [ -z "${PYTHON:-}" ] || return 0
    for python in python3 "$PWD/build/venv/bin/python3" install; do
        if [ "$python" = install ]; then
            [ -z "${DGC_OFFLINE:-}" ] && python3 -m venv build/venv >/dev/null 2>&1 || return 0
            python=$PWD/build/venv/bin/python3
            timeout 180 "$python" -m pip install -q --retries 1 --timeout 10 numpy pytest >/dev/null 2>&1
        fi
        "$python" -c 'import numpy, pytest' 2>/dev/null && { PYTHON=$python; export PYTHON; return 0; }
    done
    return 0
}
