#!/usr/bin/env bash
# Runs the head of a Ray cluster on this machine, with authentication, until it receives SIGTERM.
#
#   head.sh [options of ray start]
#
# RAY_AUTH_TOKEN_PATH   file of the token (~/.ray/auth_token; cluster/token.sh creates it)
# DM2_VENV              virtual environment with dm2-ray
# DM2_NODE_IP           address at which other nodes reach this one, if the machine has several
set -euo pipefail

# shellcheck disable=SC1091
. "$(dirname "$0")/node_environment.sh"

# A node that does not answer is declared dead after half a minute at most, 4 x (2 s + 5 s), instead of a whole one.
# Ports are fixed for the firewall (README.md). The dashboard, which accepts jobs, only listens on loopback.
exec ray start --head --block --disable-usage-stats \
    --port=6379 --node-manager-port=6380 --object-manager-port=6381 \
    --min-worker-port=20000 --max-worker-port=29999 \
    --dashboard-host=127.0.0.1 --dashboard-port=8265 \
    --system-config='{"health_check_period_ms":2000,"health_check_timeout_ms":5000,"health_check_failure_threshold":4}' \
    ${DM2_NODE_IP:+--node-ip-address="$DM2_NODE_IP"} "$@"
