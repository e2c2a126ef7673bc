"""How vertices are found: objective, descent, stopping rule, linear programs."""
