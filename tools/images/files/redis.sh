#!/bin/sh
# Start Redis as the official image does: reachable from other containers without a password.
set -eu
if [ "$1" = redis-server ]; then
  set -- "$@" --protected-mode no
fi
exec "$@"
