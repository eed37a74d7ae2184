"""RLlib Algorithms: DM2, with IPPO as its case without matching, and the centralized reference MAPPO."""
