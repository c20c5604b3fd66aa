"""How far back networks remember: the classical problems as the gap grows, and probes of a trained model."""

__all__ = ["ENDURANCE"]

ENDURANCE = 1_000_000
"""The steps without a reset that a trained model is put through."""
