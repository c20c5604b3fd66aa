"""Recurrent networks that remember."""
