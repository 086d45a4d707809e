#!/bin/sh
# Download or draw a data set, check it, and pack it under data/, ready to train on.
#
#   sh download-dataset.sh [NAME] [--count N] [--image-size N]
#
# NAME: cartoonset10k (the default), cartoonset100k, cartoon-faces, anime-faces, avatars, avatars:STYLE,
#       drive, folder:PATH, zip:PATH, tar:PATH
#
# If anything goes wrong, run it again: it continues where it stopped, and does nothing once the set is complete.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$here/.venv/bin/python" ]; then
    python=$here/.venv/bin/python
else
    python=$(command -v python3 || command -v python) || {
        echo "error: Python 3.11 or newer is needed, and was not found." >&2
        exit 2
    }
fi
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import tyro, tqdm, requests, tenacity, PIL, numpy' 2>/dev/null || {
    echo "error: packages are missing; first run: $python -m pip install -r $here/requirements.txt" >&2
    exit 2
}
case ${1-} in
-h | --help) ;;
"" | -*) set -- cartoonset10k "$@" ;;
esac
exec "$python" -m toongan data "$@"
