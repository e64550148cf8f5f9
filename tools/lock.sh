#!/bin/sh
# Writes the three hash-locked requirements files anew from pyproject.toml: `make lock`.
#
#   requirements.lock               everything, for `make demo`, `make test` and `make check`
#   deploy/requirements.lock        what the service needs to run, for the image
#   deploy/build-requirements.lock  what builds its wheel, for the image's first stage
#
# Each holds for Python 3.11 to 3.13 and names no package index, so that the place it is installed from is the
# reader's own choice. Versions already in a file stay unless UPGRADE=1.
set -eu
cd "$(dirname "$0")/.."

# What the caller's pip or uv is told about indexes must not leak into committed files.
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX UV_INDEX_URL UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL || true

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv=${UV:-$(command -v uv || true)}
if [ -z "$uv" ]; then
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet uv
    uv=$work/venv/bin/uv
fi

upgrade=
[ "${UPGRADE:-0}" = 1 ] && upgrade=--upgrade

# compile OUTPUT ARGUMENT... resolves into OUTPUT and refuses a result that names an address.
compile() {
    output=$1
    shift
    # shellcheck disable=SC2086 # an empty upgrade flag must vanish
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        $upgrade "$@" --output-file "$output"
    if grep -n '://' "$output"; then
        echo "$output names an address" >&2
        exit 1
    fi
    echo "$output: $(grep -c '==' "$output") packages"
}

compile requirements.lock --extra dev pyproject.toml
compile deploy/requirements.lock pyproject.toml
"${PYTHON:-python3}" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' >"$work/build.in"
compile deploy/build-requirements.lock --no-annotate "$work/build.in"
