"""Other ways to images with the target's features or class, as baselines."""
