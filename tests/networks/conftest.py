"""Networks that tests share."""

import pytest

from patchcollide.config import Network
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.vgg16 import load_vgg16


@pytest.fixture(scope="module")
def efficientnet():
    return load_network(Network())


@pytest.fixture(scope="module")
def vgg():
    return load_vgg16(weights="random", width=4, seed=1)
