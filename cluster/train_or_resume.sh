#!/usr/bin/env bash
# Starts a run, or resumes it if it was started before, for schedulers that repeat a job.
#
#   train_or_resume.sh RUN_DIR [arguments of dm2 train]
#
# RUN_DIR must outlive the machine (a shared file system, a persistent volume).
set -euo pipefail

run_dir="${1:?usage: train_or_resume.sh RUN_DIR [arguments of dm2 train]}"
shift
python="${DM2_PYTHON:-python3}"
address="${DM2_ADDRESS:-auto}"

# `exec`, so that signals reach the driver itself, which then saves and ends.
if [[ -e "$run_dir/config.yaml" ]]; then
    exec "$python" -m dm2_ray.cli resume "$run_dir" --address "$address"
fi
exec "$python" -m dm2_ray.cli train "$@" --run-dir "$run_dir" --address "$address"
