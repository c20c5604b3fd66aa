"""How far back networks remember: the classical problems as the gap grows, and probes of a trained model."""
