"""Metrics, one module each: a value per recovered face."""
