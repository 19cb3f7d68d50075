"""How shipped weights were made: style networks, perceptual features, the recogniser."""
