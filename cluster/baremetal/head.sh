#!/usr/bin/env bash
# Runs the head of a Ray cluster on this machine, authentication on, until it is told to stop.
#
#   head.sh [options of ray start]
#
# RAY_AUTH_TOKEN_PATH   file of the token (~/.ray/auth_token; cluster/token.sh makes it)
# DM2_VENV              virtual environment that dm2-ray is installed in
# DM2_NODE_IP           address by which other nodes reach this one, where the machine has several
set -euo pipefail

export RAY_AUTH_MODE=token
if [[ -z "${RAY_AUTH_TOKEN:-}" ]]; then
    export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
    if [[ ! -s "$RAY_AUTH_TOKEN_PATH" ]]; then
        echo "head.sh: no token at $RAY_AUTH_TOKEN_PATH: run cluster/token.sh" >&2
        exit 1
    fi
fi
if [[ -n "${DM2_VENV:-}" ]]; then
    # shellcheck disable=SC1091
    . "$DM2_VENV/bin/activate"
fi
# Ray runs workers at niceness 15 otherwise: beside anything else on the machine a learner would starve.
export RAY_worker_niceness="${RAY_worker_niceness:-0}"

# A node that is cut off is given up after half a minute at most, 4 x (2 s + 5 s), instead of a whole one. Ports are fixed
# for the firewall (README.md). The dashboard, through which jobs come, listens on loopback alone.
exec ray start --head --block --disable-usage-stats \
    --port=6379 --node-manager-port=6380 --object-manager-port=6381 \
    --min-worker-port=20000 --max-worker-port=29999 \
    --dashboard-host=127.0.0.1 --dashboard-port=8265 \
    --system-config='{"health_check_period_ms":2000,"health_check_timeout_ms":5000,"health_check_failure_threshold":4}' \
    ${DM2_NODE_IP:+--node-ip-address="$DM2_NODE_IP"} "$@"
