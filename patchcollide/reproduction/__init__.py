"""The paper's tables again, row by row, and its Figure 1."""
