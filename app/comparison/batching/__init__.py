"""How many answers at once a machine is good for, and which settings of a runtime are faster: measured, not guessed."""
