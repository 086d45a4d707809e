#!/bin/sh
# Put a data set under data/, ready to train on. Usage: sh download-dataset.sh [NAME] [--count N] [--image-size N]
# NAME is avatars (the default) or avatars:STYLE; these are drawn on this machine, nothing is downloaded.
set -eu

cd "$(dirname "$0")"
if [ -x .venv/bin/python ]; then
    python=.venv/bin/python
else
    python=$(command -v python3 || command -v python) || {
        echo "error: Python 3.11 or newer is needed and was not found." >&2
        exit 2
    }
fi
[ $# -gt 0 ] || set -- avatars
exec "$python" -m toongan data "$@"
