#!/bin/sh
# Runs evstream out of the folder that this file is in, wherever that is, with a Python of the node.
# EVSTREAM_PYTHON=/path/to/python chooses which.
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self")
  case $target in
    /*) self=$target ;;
    *) self=$(dirname "$self")/$target ;;
  esac
done
root=$(cd "$(dirname "$self")/.." && pwd -P) || exit 1

tried=
for python in ${EVSTREAM_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  libraries=$root/lib/python$version
  [ -d "$libraries" ] || { tried="$tried $python is $version;" && continue; }
  # Payloads of a Python of their own get the PYTHONPATH from before: see EVSTREAM_BUNDLE.
  EVSTREAM_BUNDLE=$libraries
  PYTHONPATH=$libraries${PYTHONPATH:+:$PYTHONPATH}
  export EVSTREAM_BUNDLE PYTHONPATH
  exec "$python" -P -m evstream "$@"
done
echo "evstream: error: no Python for this bundle;${tried} it has libraries for" \
  "$(cd "$root/lib" && echo python*): put one on the PATH, or name it in EVSTREAM_PYTHON" >&2
exit 1
