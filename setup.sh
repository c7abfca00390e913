#!/bin/sh
# Creates the virtual environment with the locked dependencies. Called by make; needs only Python.
set -eu

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

if ! "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    echo "scale-assets needs Python 3.11, 3.12 or 3.13; '$PYTHON' is $("$PYTHON" --version 2>&1 || echo missing)." >&2
    echo "Name another one: make PYTHON=python3.12 setup" >&2
    exit 1
fi

if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    UV=uv
else
    if [ ! -x "$VENV-uv/bin/uv" ]; then
        echo "Installing uv ..."
        "$PYTHON" -m venv "$VENV-uv" || {
            echo "Python's venv module is missing. Debian: sudo apt-get install python3-venv" >&2
            exit 1
        }
        "$VENV-uv/bin/python" -m pip install --quiet uv
    fi
    UV="$VENV-uv/bin/uv"
fi

echo "Installing the locked dependencies into $VENV (about 6 GB, mostly torch) ..."
# pip's own settings name a wheel folder or a mirror on some machines. uv's lock names the public
# index, so there the locked versions are installed the way pip would find them.
find_links=$("$PYTHON" -m pip config get global.find-links 2>/dev/null || true)
find_links=${PIP_FIND_LINKS:-$find_links}
if [ -n "$find_links${PIP_NO_INDEX:-}${PIP_INDEX_URL:-}" ]; then
    [ -x "$VENV/bin/python" ] || "$UV" venv --quiet --python "$PYTHON" "$VENV"
    "$UV" export --quiet --frozen --no-emit-project --no-hashes -o "$VENV/locked.txt"
    set -- --quiet --python "$VENV/bin/python"
    for folder in $find_links; do set -- "$@" --find-links "$folder"; done
    [ -z "${PIP_NO_INDEX:-}" ] || set -- "$@" --no-index
    [ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --default-index "$PIP_INDEX_URL"
    "$UV" pip install --compile-bytecode "$@" -r "$VENV/locked.txt"
    "$UV" pip install "$@" --no-deps -e .
else
    "$UV" sync --compile-bytecode --quiet --frozen --python "$PYTHON"
fi
