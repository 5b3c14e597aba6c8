"""Many jobs from one source, with a state that survives."""
