"""A network whose polytopes are known, images for it, and its audits."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.audit import audit
from patchcollide.audit.files import open_audit
from patchcollide.config_files import load_config
from patchcollide.images.pictures import write_png
from patchcollide.networks.network import CollisionNetwork
from tests.helpers.audits import BRIGHT, DARK, SIDE


@pytest.fixture
def network():
    """Unit j sees how far pixel j is above the middle: dark pixels are free to be darker."""
    fc = nn.Linear(SIDE**2, SIDE**2)
    out = nn.Linear(SIDE**2, 2)
    with torch.no_grad():
        fc.weight.copy_(torch.eye(SIDE**2))
        fc.bias.fill_(-0.5)
        # Many bright pixels are day.
        out.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, SIDE**2))
        out.bias.copy_(torch.tensor([-5.4, 5.4]))
    parts = OrderedDict(flatten=nn.Flatten(), fc=fc, act=nn.ReLU(), out=out)
    return CollisionNetwork(
        nn.Sequential(parts),
        name="bright",
        layer="act",
        input_size=SIDE,
        mean=(0.0,),
        scale=(1.0,),
        class_names=("Day, daylight", "Night"),
    )


@pytest.fixture
def folder(tmp_path):
    """Images with 0, 4, ... 36 dark pixels; those of fewer than 18 lie in ``day``."""
    for number in range(10):
        picture = np.full((SIDE**2, 1), BRIGHT, np.uint8)
        picture[: 4 * number] = DARK
        label = "day" if number < 5 else "night"
        place = tmp_path / "images" / label
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number}.png", picture.reshape(SIDE, SIDE, 1))
    return tmp_path / "images"


@pytest.fixture
def make(network, folder, monkeypatch):
    monkeypatch.setattr(audit, "load_network", lambda *_: network)

    def run(out, *overrides, images=None, **options):
        config = load_config(overrides=["audit.hull_samples=8", "audit.steps=5", *overrides])
        return open_audit(audit.audit(config, images or folder, out, **options))[1]

    return run
