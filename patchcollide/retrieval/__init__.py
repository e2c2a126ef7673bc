"""The nearest patches for every location: engines, policy, the neighbours file."""
