"""The paper's tables again: rows with commands and expected numbers, run, checked, rendered."""
