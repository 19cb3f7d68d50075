"""What everything stands on: files, weights, pictures, geometry, draws, processes, settings, errors."""
