#!/usr/bin/env bash
# Joins this machine to a Ray cluster, until it is told to stop (SIGTERM: what runs here moves elsewhere first).
#
#   worker.sh HEAD[:PORT] [options of ray start]
#
# Variables as for head.sh.
set -euo pipefail

head="${1:?usage: worker.sh HEAD[:PORT] [options of ray start]}"
shift
[[ "$head" == *:* ]] || head="$head:6379"

export RAY_AUTH_MODE=token
if [[ -z "${RAY_AUTH_TOKEN:-}" ]]; then
    export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
    if [[ ! -s "$RAY_AUTH_TOKEN_PATH" ]]; then
        echo "worker.sh: no token at $RAY_AUTH_TOKEN_PATH: copy the head's there (cluster/token.sh HOST)" >&2
        exit 1
    fi
fi
if [[ -n "${DM2_VENV:-}" ]]; then
    # shellcheck disable=SC1091
    . "$DM2_VENV/bin/activate"
fi
export RAY_worker_niceness="${RAY_worker_niceness:-0}"

exec ray start --address="$head" --block --disable-usage-stats \
    --node-manager-port=6380 --object-manager-port=6381 \
    --min-worker-port=20000 --max-worker-port=29999 \
    ${DM2_NODE_IP:+--node-ip-address="$DM2_NODE_IP"} "$@"
