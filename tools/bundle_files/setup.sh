# Sourced by bash, zsh, dash or ksh: puts this bundle's evstream on the PATH.
# A shell that cannot tell where this file is needs EVSTREAM_BUNDLE_ROOT to be set.
if [ -n "${BASH_SOURCE:-}" ]; then
  _evstream=${BASH_SOURCE}
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_evstream=${(%):-%x}'
else
  _evstream=${EVSTREAM_BUNDLE_ROOT:?"say where the bundle is"}/setup.sh
fi
PATH=$(cd "$(dirname "$_evstream")" && pwd -P)/bin:$PATH
export PATH
unset _evstream
