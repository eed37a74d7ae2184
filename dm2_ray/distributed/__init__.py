"""What runs where: rollout workers, learner processes, demonstration servers, and what happens when one dies.

    run_spec.py                what every process of a run needs to know; start here
    rollout/                   workers that play battles, and the queue of tasks that they share
    learners/                  one learner per agent
    demonstration_sources/     stored sets, live teams, self-imitation, and their servers
    placement.py, resources.py where processes go, and whether they fit the cluster
    errors.py, fault_log.py    what can be lost, and the record of it

README.md describes how a run survives faults.
"""
