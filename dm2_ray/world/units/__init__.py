"""Units in battle: the arrays of their state, and the tables of what their kinds can do."""
