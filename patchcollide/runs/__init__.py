"""A run: its folder, inputs and summary, and the stages on it."""
