"""Finds feature collisions: polytopes of different-looking images a network cannot tell apart.

After Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
"""

__version__ = "0.1.0"
