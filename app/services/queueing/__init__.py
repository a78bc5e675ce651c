"""The parts of the request queue: who is admitted, who is next, what was learned of speeds, and what is foretold."""
