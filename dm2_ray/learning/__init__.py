"""How one agent learns from its own battles and its own expert: pure torch, one agent at a time.

Nothing in this folder knows of other agents or of other machines. Import the modules
themselves (`from dm2_ray.learning.ppo import ppo_losses`); this file imports nothing so that processes which only
need `episodes` do not pay for torch.
"""
