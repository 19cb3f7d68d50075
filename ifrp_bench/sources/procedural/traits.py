"""Who is rendered and in what moment: every number that a picture is made of, drawn by name.

What makes a person (bones, features, skin, hair, beard) is drawn once per identity; expression, gaze, pose,
light, clothes and background once per picture.
"""

import numpy as np

from ifrp_bench.ground.draws import generator

SKIN = np.array([   # linear RGB albedo, light to dark
    [0.83, 0.62, 0.51], [0.78, 0.54, 0.41], [0.66, 0.43, 0.30],
    [0.50, 0.30, 0.19], [0.32, 0.175, 0.11], [0.17, 0.09, 0.06],
])
HAIR = np.array([   # black, dark brown, brown, auburn, blond, light blond, grey, white
    [0.012, 0.010, 0.010], [0.045, 0.026, 0.016], [0.13, 0.070, 0.036], [0.24, 0.075, 0.028],
    [0.42, 0.27, 0.12], [0.62, 0.47, 0.27], [0.30, 0.30, 0.30], [0.72, 0.71, 0.69],
])
IRIS = np.array(
    [[0.05, 0.022, 0.01], [0.16, 0.08, 0.03], [0.16, 0.16, 0.05], [0.12, 0.22, 0.30], [0.22, 0.28, 0.30]]
)
HAIR_STYLES = ("bald", "buzz", "short", "parted", "fringe", "receding", "long", "bob", "afro", "tied")
HAIR_OF_MEN = {   # how many of a hundred, about
    "bald": 0.13, "buzz": 0.16, "short": 0.26, "parted": 0.2, "fringe": 0.08, "receding": 0.12, "afro": 0.05,
}
HAIR_OF_WOMEN = {
    "long": 0.3, "bob": 0.18, "fringe": 0.14, "tied": 0.16, "parted": 0.1, "short": 0.07, "afro": 0.05,
}
BEARDS = ("none", "stubble", "moustache", "goatee", "full")

Traits = dict[str, float]


def draw_traits(seed: int, identity: int, picture: int) -> Traits:
    """All numbers that a picture is made of, by name: those of the person and those of the moment."""
    return _person(generator(seed, "procedural person", identity)) | _moment(
        generator(seed, "procedural moment", identity, picture)
    )


def _person(g: np.random.Generator) -> Traits:
    """Bones and features around a mean face; ``male`` and ``age`` correlate what goes together."""
    male = float(g.random() < 0.5)
    m = 2 * male - 1
    age = float(g.beta(1.3, 1.8))

    def normal(mean: float, spread: float, low: float = -2.2, high: float = 2.2) -> float:
        return mean + spread * float(np.clip(g.normal(), low, high))

    t = {
        "male": male,
        "age": age,
        "head_width": normal(1.0, 0.055),
        "head_height": normal(1.0, 0.06),
        "face_length": normal(0.97 + 0.02 * m, 0.075),
        "jaw_width": normal(1.0 + 0.045 * m, 0.11),
        "jaw_corner": normal(0.5 + 0.15 * m, 0.30),
        "chin_width": normal(0.18 + 0.02 * m, 0.05),
        "chin_out": normal(0.02 * m, 0.05),
        "cheek": normal(1.0, 0.20),
        "cheek_y": normal(0.0, 0.05),
        "fat": normal(0.0, 0.065),
        "brow_ridge": normal(0.55 + 0.3 * m, 0.25),
        "forehead": normal(0.0, 0.06),
        "eye_size": normal(1.0 - 0.03 * m, 0.10),
        "eye_width": normal(1.0, 0.10),
        "eye_open": normal(1.0 - 0.04 * m, 0.19),
        "eye_tilt": normal(0.04, 0.085),
        "eye_depth": normal(0.0, 0.028),
        "lid_crease": float(g.random()),
        "bags": age * float(g.random()),
        "nose_length": normal(1.0 + 0.03 * m, 0.115),
        "nose_width": normal(1.0 + 0.06 * m, 0.23),
        "nose_bridge": normal(1.0 + 0.06 * m, 0.22),
        "nose_tip": normal(1.0, 0.17),
        "nose_out": normal(0.02 * m, 0.06),
        "nose_hump": normal(0.0, 0.03),
        "nose_up": normal(0.0, 0.05),
        "mouth_width": normal(1.0, 0.14),
        "mouth_y": normal(0.0, 0.045),
        "lip_upper": normal(1.0 - 0.12 * m, 0.30),
        "lip_lower": normal(1.0 - 0.08 * m, 0.26),
        "bow": normal(1.0, 0.5),
        "mouth_curve": normal(0.0, 0.022),
        "ear_size": normal(1.0, 0.13),
        "ear_out": normal(0.0, 0.035),
        "neck_width": normal(1.0 + 0.09 * m, 0.08),
        "shoulders": normal(1.0 + 0.07 * m, 0.07),
        "skin": float(np.clip(g.choice([0.3, 0.9, 1.7, 2.7, 3.8, 4.7]) + 0.35 * g.normal(), 0, 5)),
        "ruddy": float(g.random()),
        "freckles": max(0.0, normal(-0.6, 0.9)),
        "iris": float(g.choice([0, 0, 1, 2, 3, 4])),
        "lip_red": float(np.clip(normal(0.45 - 0.2 * m, 0.28), 0, 1)),
        "brow_thick": normal(1.0 + 0.22 * m, 0.34),
        "brow_y": normal(0.0 - 0.02 * m, 0.042),
        "brow_tilt": normal(0.0, 0.11),
        "brow_arch": normal(1.0 - 0.3 * m, 0.5),
        "brow_dark": float(np.clip(normal(0.8, 0.2), 0.3, 1)),
        "brow_gap": normal(0.0, 0.035),
        "liner": (1 - male) * float(g.random()),
        "mole_x": normal(0.0, 0.3),
        "mole_y": float(g.uniform(-0.9, 0.3)),
        "mole": float(g.random() < 0.3),
        "hair_volume": float(g.random()),
        "hair_part": float(g.uniform(-1, 1)),
        "hairline": normal(0.0, 0.05),
        "hair_length": float(g.random()),
        "hair_wave": float(g.random()),
        "hair_seed": float(g.uniform(0, 100)),
        "moustache": 0.0,
        "beard": 0.0,
        "stubble": 0.0,
    }
    dark = t["skin"] > 2.3
    if dark:
        t["iris"] = min(t["iris"], 1.0) * 0.6
    weights = dict(HAIR_OF_MEN if male else HAIR_OF_WOMEN)
    if dark:
        weights |= {"afro": 0.2, "buzz": 0.22 if male else 0.06}
    shares = np.array(list(weights.values())) / sum(weights.values())
    t["hair_style"] = float(HAIR_STYLES.index(str(g.choice(list(weights), p=shares))))
    colour = float(g.choice([0, 0.6, 1] if dark else [0, 1, 1.5, 2, 2.5, 3, 4, 5]))
    t["hair_colour"] = float(g.choice([6.0, 6.6, 7.0])) if age > 0.55 and g.random() < age else colour
    beard = str(g.choice(BEARDS, p=[0.46, 0.2, 0.1, 0.1, 0.14])) if male else "none"
    shade = {"none": 0.12 * male, "stubble": 0.55, "moustache": 0.2, "goatee": 0.25, "full": 0.5}
    t |= {
        "stubble": shade[beard] * float(g.uniform(0.7, 1.2)),
        "moustache": float(beard in ("moustache", "goatee", "full")),
        "beard": {"goatee": 0.5, "full": 1.0}.get(beard, 0.0),
    }
    return t


def _moment(g: np.random.Generator) -> Traits:
    """Expression, pose within about 12 degrees, gaze, light, clothes, background."""
    def normal(spread: float) -> float:
        return spread * float(np.clip(g.normal(), -2, 2))

    return {
        "yaw": normal(0.095),
        "pitch": normal(0.055),
        "roll": normal(0.02),
        "gaze_x": normal(0.12),
        "gaze_y": normal(0.06),
        "smile": float(g.beta(1.3, 2.0)),
        "mouth_open": float(max(0.0, g.normal(-0.1, 0.45))),
        "blink": float(g.beta(1, 5)) * 0.35,
        "brow_raise": normal(0.5),
        "light_x": float(g.uniform(-1, 1)),
        "light_y": float(g.uniform(0.1, 0.9)),
        "light": float(g.uniform(0.8, 1.1)),
        "ambient": float(g.uniform(0.30, 0.5)),
        "warm": normal(0.5),
        "shirt_r": float(g.random()),
        "shirt_g": float(g.random()),
        "shirt_b": float(g.random()),
        "back_r": float(g.random()),
        "back_g": float(g.random()),
        "back_b": float(g.random()),
        "back_x": float(g.uniform(-1, 1)),
        "back_y": float(g.uniform(-1, 1)),
        "back_kind": float(g.random()),
        "wind": normal(0.1),
    }
