#!/usr/bin/env bash
# Adds this machine to a Ray cluster until it receives SIGTERM (what runs here is moved elsewhere first).
#
#   worker.sh HEAD[:PORT] [options of ray start]
#
# It reads the same environment variables as head.sh.
set -euo pipefail

head="${1:?usage: worker.sh HEAD[:PORT] [options of ray start]}"
shift
[[ "$head" == *:* ]] || head="$head:6379"

# shellcheck disable=SC1091
. "$(dirname "$0")/node_environment.sh"

exec ray start --address="$head" --block --disable-usage-stats \
    --node-manager-port=6380 --object-manager-port=6381 \
    --min-worker-port=20000 --max-worker-port=29999 \
    ${DM2_NODE_IP:+--node-ip-address="$DM2_NODE_IP"} "$@"
