"""The local web page that asks a run's network."""
