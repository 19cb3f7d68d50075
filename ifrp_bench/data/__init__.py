"""Data sets and runs on disk, and how data sets are made.

``format.py`` and ``runs.py`` are what other stages meet in.
"""
