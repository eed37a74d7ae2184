"""Jobs on a Ray cluster (`dm2 submit`, `jobs`, `stop`, `doctor`), managed from elsewhere over the head's HTTP API.

`submission.py` builds and submits a job, `job_control.py` streams its output and stops it, `dashboard.py` talks to the
cluster, `machine_checks.py` and `cluster_checks.py` are the checks of `dm2 doctor`.
"""
