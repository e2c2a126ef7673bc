"""Small networks written as people write theirs: RGB images of 16 pixels, four classes or two."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.scripting import as_torchscript

SIZE = 16


class ViewFlatten(nn.Module):
    """As in the tutorials: `view` in place of `flatten`, functions in place of modules."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1, self.fc2 = nn.Linear(5 * 2 * 2, 8), nn.Linear(8, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 5 * 2 * 2)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


class ReusedRelu(nn.Module):
    """One module for all activations, in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        y = self.inner(x)
        y += x
        y = self.relu(y)
        return self.head(y.mean((2, 3)))


class DictOutput(ViewFlatten):
    def forward(self, x):
        return {"logits": super().forward(x), "embedding": x.mean((2, 3))}


class SoftmaxAtTheEnd(ViewFlatten):
    def forward(self, x):
        return torch.softmax(super().forward(x), dim=1)


class LitModel(nn.Module):
    """What a LightningModule is to others: the network is a part, beside the loss."""

    def __init__(self):
        super().__init__()
        self.hparams = argparse.Namespace(lr=0.1)
        self.model = ViewFlatten()
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(4))
        self.trainer = None

    def training_step(self, batch, _):
        return self.loss(self(batch[0]), batch[1])

    def forward(self, x):
        return self.model(x)


class Loops(nn.Module):
    """Runs its blocks in loops, as often as the image's size says."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        kept = []
        while x.shape[-1] > 4:
            for number, block in enumerate(self.blocks):
                x = F.relu_(block(x)) if number % 2 else torch.relu(block(x))
            x = F.avg_pool2d(x, 2)
            kept.append(x.mean((2, 3)))
        if len(kept) > 1:
            kept = [part.clamp(max=1) for part in kept]
        return self.head(sum(kept))


def one_logit():
    return ViewFlatten(classes=1)


def scripted():
    return as_torchscript(ReusedRelu())


def checkpoint_of_data_parallel(path):
    """Writes what a training script writes; returns the network to load it into."""
    trained = nn.DataParallel(ViewFlatten())
    torch.save({"epoch": 3, "state_dict": trained.state_dict(), "best": 0.5}, path)
    return ViewFlatten


NETWORKS = {
    "ViewFlatten": ["relu", "relu_1", "relu_2"],
    "ReusedRelu": ["relu", "relu_1"],
    "DictOutput": ["relu", "relu_1", "relu_2"],
    "one_logit": ["relu", "relu_1", "relu_2"],
    "SoftmaxAtTheEnd": ["relu", "relu_1", "relu_2"],
    "LitModel": ["model.relu", "model.relu_1", "model.relu_2"],
    "scripted": ["relu_", "relu__1"],
    "Loops": ["relu", "relu_", "relu_1", "relu__1", "clamp", "clamp_1"],
}
"""Makers, and the names of their layers."""

LAYERS = {"Loops": "relu__1"}
"""Where another layer than the last one is asked for: its units are all active."""
