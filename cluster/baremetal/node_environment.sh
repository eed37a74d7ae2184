#!/usr/bin/env bash
# Sourced by head.sh and worker.sh: the token, the virtual environment and the niceness of Ray's workers.
set -euo pipefail

export RAY_AUTH_MODE=token
if [[ -z "${RAY_AUTH_TOKEN:-}" ]]; then
    export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
    if [[ ! -s "$RAY_AUTH_TOKEN_PATH" ]]; then
        echo "$(basename "$0"): no token at $RAY_AUTH_TOKEN_PATH: use cluster/token.sh, or copy the head's" >&2
        exit 1
    fi
fi
if [[ -n "${DM2_VENV:-}" ]]; then
    # shellcheck disable=SC1091
    . "$DM2_VENV/bin/activate"
fi
# Ray runs workers at niceness 15 by default, so that learners would starve if anything else runs on the machine.
export RAY_worker_niceness="${RAY_worker_niceness:-0}"
