"""``python -m ifrp_bench`` is ``ifrp-bench``."""

from ifrp_bench.cli import main

main()
