"""The explorer of a run: a local web page that asks the run's network about any of its points."""
