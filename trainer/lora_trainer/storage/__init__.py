"""Where inputs come from and artifacts go: the only network that a trainer has."""
