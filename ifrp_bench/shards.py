"""The format on disk for readers outside the package: ``ifrp_bench.data.format`` under its older name."""

from ifrp_bench.data.format import *  # noqa: F401,F403
