#!/bin/sh
# Makes .venv from requirements.lock and installs this project in it, in place: `make setup`, and first thing in every
# other target. Nothing happens when nothing changed. PYTHON=/path/to/python3 chooses the interpreter.
#
#   tools/setup.sh             make .venv as it should be
#   tools/setup.sh --missing   print the Debian packages that this machine lacks for that, one a line
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
LOCK=requirements.lock

# What the caller's shell says about other Pythons must not reach this one.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX || true
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

now() { date +%s.%N; }
started=$(now)

# say TEXT: one line a phase, with the seconds since the start.
say() {
    [ -t 1 ] && printf '\r\033[K'
    now | awk -v started="$started" -v text="$1" '{ printf "[%5.1f s] %s\n", $1 - started, text }'
}

# doing TEXT: on a terminal, what is under way until the next line replaces it.
doing() {
    if [ -t 1 ]; then printf '          %s …' "$1"; fi
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# find_python: sets `python` to the interpreter to use and `packages` to the Debian packages that are missing.
find_python() {
    python=''
    packages=''
    without_venv=''
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        is_supported "$candidate" || continue
        if has_venv "$candidate"; then
            python=$(command -v "$candidate")
            break
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [ -z "$python" ] && [ -n "${PYTHON:-}" ] && [ -z "$without_venv" ]; then
        echo "PYTHON=$PYTHON is not a Python of version 3.11, 3.12 or 3.13." >&2
        exit 1
    fi
    if [ -z "$python" ]; then
        [ -n "$without_venv" ] || packages=python3
        packages="$packages python3-venv"
        python=${without_venv:-}
    fi
    # llama.cpp's wheel links against the OpenMP runtime, which no wheel brings.
    if [ -n "$python" ] && ! "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
        packages="$packages libgomp1"
    fi
}

require_packages() {
    [ -n "$packages" ] || return 0
    echo "This machine lacks: $packages" >&2
    case $packages in
    *python3\ *) echo "Python 3.11, 3.12 or 3.13 is needed; any other place may be named by PYTHON=." >&2 ;;
    *python3-venv*) echo "$python has no venv module; Debian keeps it in a package of its own." >&2 ;;
    esac
    # shellcheck disable=SC2086 # the list is words
    echo "On Debian: apt-get install" $packages >&2
    exit 1
}

# What .venv was made from: it is made anew when the lock changes or PYTHON= names another interpreter. The project
# is installed again when its metadata or its place changes. An interrupted install leaves no stamp.
environment_is_current() {
    [ -f $VENV/environment.stamp ] && [ "$(cksum <$LOCK)" = "$(cat $VENV/environment.stamp)" ] || return 1
    $VENV/bin/python -c '' 2>/dev/null || return 1
    [ -z "${PYTHON:-}" ] || [ "$(base_of "$PYTHON")" = "$(base_of $VENV/bin/python)" ]
}

base_of() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

project_stamp() {
    pwd
    cksum <pyproject.toml
}

project_is_current() {
    [ -f $VENV/project.stamp ] && [ "$(project_stamp)" = "$(cat $VENV/project.stamp)" ]
}

make_environment() {
    find_python
    require_packages
    doing "making $VENV"
    rm -rf $VENV
    "$python" -m venv $VENV
    say "made $VENV with $("$python" -V) ($python)"
    doing "installing from $LOCK"
    $VENV/bin/python -m pip install --quiet --progress-bar off --require-hashes -r $LOCK
    say "installed $(count_installed) packages from $LOCK"
    cksum <$LOCK >$VENV/environment.stamp
}

count_installed() {
    set -- $VENV/lib/python3*/site-packages/*.dist-info
    echo $(($# - 1)) # pip itself came with venv
}

install_project() {
    doing "installing this project"
    $VENV/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation -e .
    project_stamp >$VENV/project.stamp
    say "installed this project in $VENV, in place"
}

if [ "${1:-}" = --missing ]; then
    find_python
    # shellcheck disable=SC2086 # the list is words
    [ -z "$packages" ] || printf '%s\n' $packages
    exit 0
fi
if environment_is_current && project_is_current; then
    exit 0
fi

# Two makes at once: the second waits until the first has installed. The lock is on this file and ends with the process.
if command -v flock >/dev/null; then
    exec 9<tools/setup.sh
    flock -n 9 || { say "waiting for another make that is installing" && flock 9; }
fi
environment_is_current || make_environment
project_is_current || install_project
