"""Pairs of photographs and drawings that come from elsewhere: found, not made.

``ifrp-bench import-pairs`` writes such data sets.
"""

from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import Faces, Request, Source


def open_source(request: Request) -> Faces:
    """There is nothing to open: always raises InputError that names the command that makes such a data set.
    """
    raise InputError(
        f"recipe {request.recipe} holds pairs from elsewhere; `ifrp-bench import-pairs` makes such a data"
        " set, there is nothing to render"
    )


SOURCE = Source(open_source, made=False)
