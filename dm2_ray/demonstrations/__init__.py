"""Demonstrations: sets of joint trajectories on disk, and which agent imitates which of their episodes.

Start with `dataset.py` (`JointTrajectories`, a set opened for reading) and `sampling.py` (`draw_episodes`, the draw of
an iteration). `manifest.py` and `parquet_layout.py` define the files, `writer.py` writes them.
"""

from __future__ import annotations

from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.episode_server import EpisodeServer
from dm2_ray.demonstrations.joint_episode import EpisodeRecord, JointEpisode
from dm2_ray.demonstrations.manifest import DemonstrationError, Filters, Manifest, Part, Provenance, RecordedWorld
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.demonstrations.writer import JointTrajectoryWriter
from dm2_ray.learning.episodes import AgentDemonstration
from dm2_ray.world.configured import ConfiguredWorld

__all__ = [
    "AgentDemonstration",
    "DemonstrationError",
    "EpisodeRecord",
    "EpisodeServer",
    "Filters",
    "JointEpisode",
    "JointTrajectories",
    "JointTrajectoryWriter",
    "Manifest",
    "Part",
    "Provenance",
    "RecordedWorld",
    "ConfiguredWorld",
    "draw_episodes",
]
