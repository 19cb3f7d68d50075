"""Stages 4 and 5: recovered faces -> scores -> tables and the report."""
