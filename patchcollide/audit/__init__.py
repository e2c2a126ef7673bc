"""The polytopes of many images ranked: findings, adequacy, the page."""
