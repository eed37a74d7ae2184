"""One training run, from its configuration to its result.

The life of a run, in order:

    1. `experiment_loading.load_experiment` merges defaults, map, variant, file and command line into an `Experiment`.
    2. `RunDirectory.create` writes it to RUN_DIR/config.yaml. For a resume, `RunDirectory.open` reads it, after
       `downloads.fetch_run` if the run is a copy at a URI, and `open_checkpoint` finds the newest intact checkpoint.
    3. `training.train` validates the experiment, takes the lock (`run_lock`), connects to Ray, builds the algorithm
       (`trainables.build_algorithm`), restores the checkpoint if there is one, and handles SIGINT and SIGTERM from
       here on (`shutdown`).
    4. The loop in `training` repeats one iteration: the algorithm learns, an evaluation is played when due, the record
       goes to the `Tracker` (metrics.jsonl, TensorBoard, W&B) and to the terminal (`training_progress`), and
       `checkpoint_writer` saves a checkpoint when due, which `uploads` copies to `checkpoint.uri` in the background.
    5. The loop ends at a limit of `stop`, at a signal or at a fault. It saves a last checkpoint, plays the final
       evaluation unless it was interrupted, writes summary.json and completes the copy.
    6. `algorithm.stop()` ends all processes; then Ray is disconnected and the lock released.

The lock is checked before every write, so a driver whose run was resumed elsewhere stops without writing anything.

Afterwards `evaluation` plays checkpoints and scripted teams without Ray, `team` lets a trained team act from Python,
and `joint_rollouts` holds what all agents of a team saw and did, for analysis.
"""
