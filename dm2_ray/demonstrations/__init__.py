"""Demonstrations: joint trajectories on disk, who gets which of them, and how they are served and recorded."""

from __future__ import annotations

from dm2_ray.demonstrations.agent_demonstration import AgentDemonstration
from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.expert import ExpertActor
from dm2_ray.demonstrations.manifest import DemonstrationError, Filters, Manifest, Part, Provenance, RecordedWorld
from dm2_ray.demonstrations.parquet_layout import EpisodeRecord, JointEpisode
from dm2_ray.demonstrations.run_world import RunWorld
from dm2_ray.demonstrations.sampling import draw_episodes
from dm2_ray.demonstrations.writer import JointTrajectoryWriter

__all__ = [
    "AgentDemonstration",
    "DemonstrationError",
    "EpisodeRecord",
    "ExpertActor",
    "Filters",
    "JointEpisode",
    "JointTrajectories",
    "JointTrajectoryWriter",
    "Manifest",
    "Part",
    "Provenance",
    "RecordedWorld",
    "RunWorld",
    "draw_episodes",
]
