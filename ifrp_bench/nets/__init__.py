"""Networks that two or more rooms share."""
