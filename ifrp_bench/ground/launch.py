"""Which of several processes this is, as its launcher says in the environment: ``torchrun`` and ``accelerate
launch`` (which speaks like it), or SLURM's ``srun``.
"""

import hashlib
import os
from dataclasses import dataclass

from ifrp_bench.ground.errors import InputError

# what tells one start of several processes from the next, a restart by torchrun too
_LAUNCH = (
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT",
    "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT",
)


@dataclass(frozen=True)
class Place:
    """This process among the others: ``rank`` of ``world``, and ``local_rank`` of ``local_world`` on its own
    machine. ``launch`` is the same for all that were started together, and for no others.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    launch: str = ""

    @property
    def first(self) -> bool:
        """Whether this process does what is done once."""
        return self.rank == 0


def number_of(variable: str, default: int) -> int:
    """A launcher's number in the environment; the default where it is not set or empty.

    Raises InputError for anything else.
    """
    text = os.environ.get(variable, "").strip()
    if text and not text.isdecimal():
        raise InputError(f"{variable} is {text!r} in the environment, expected a whole number; unset it")
    return int(text or default)


def find_place() -> Place:
    """This process's place. Within one started by both, torchrun's word counts: srun starts one for a
    machine, and that one starts the others.

    ``srun`` sets ``SLURM_STEP_NUM_TASKS``, and nothing else does: a script of ``sbatch``, which is no one of
    several, has a ``SLURM_PROCID`` too. Raises InputError for numbers that are none, and for a rank outside
    of its world.
    """
    if number_of("WORLD_SIZE", 0):
        place = Place(
            number_of("RANK", 0), number_of("WORLD_SIZE", 1),
            number_of("LOCAL_RANK", 0), number_of("LOCAL_WORLD_SIZE", 1), _launch(),
        )
    elif number_of("SLURM_STEP_NUM_TASKS", 0):
        # cores are given to each task by SLURM itself: what a process may use is what it has
        place = Place(
            number_of("SLURM_PROCID", 0), number_of("SLURM_STEP_NUM_TASKS", 1),
            number_of("SLURM_LOCALID", 0), 1, _launch(),
        )
    else:
        return Place()
    if place.rank >= place.world:
        raise InputError(
            f"the environment says process {place.rank} of {place.world}, counted from 0; unset RANK and"
            " WORLD_SIZE, or start all of them with torchrun or srun"
        )
    return place


def _launch() -> str:
    said = "/".join(os.environ.get(variable, "") for variable in _LAUNCH)
    return hashlib.sha256(said.encode()).hexdigest()[:12]
