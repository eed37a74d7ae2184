#!/usr/bin/env bash
# Starts a run, or goes on with it where it has been started before: what a scheduler that repeats a job needs.
#
#   train_or_resume.sh RUN_DIR [arguments of dm2 train]
#
# RUN_DIR has to outlive the machine (a shared file system, a persistent volume).
set -euo pipefail

run_dir="${1:?usage: train_or_resume.sh RUN_DIR [arguments of dm2 train]}"
shift
python="${DM2_PYTHON:-python3}"
address="${DM2_ADDRESS:-auto}"

# `exec`: signals reach the driver itself, which then saves and ends.
if [[ -e "$run_dir/config.yaml" ]]; then
    if compgen -G "$run_dir/checkpoints/iteration_*" >/dev/null; then
        exec "$python" -m dm2_ray.cli resume "$run_dir" --address "$address"
    fi
    # It ended before its first checkpoint: there is nothing to go on with, and nothing is thrown away.
    mv -- "$run_dir" "$run_dir.unsaved-$(date +%Y%m%d-%H%M%S)"
fi
exec "$python" -m dm2_ray.cli train "$@" --run-dir "$run_dir" --address "$address"
