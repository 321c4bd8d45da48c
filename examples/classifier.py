"""An image classifier on scikit-learn's real handwritten digits: train few, test many, with and without decay.

Run: python examples/classifier.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from segdecay.decay import attach

TRAIN, EPOCHS, BATCH, LR = 200, 60, 20, 0.02


def make_net() -> nn.Module:
    """The same network at every call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def main() -> None:
    """Train twice on the same few digits, print the objective and the accuracy on the others."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), train_size=TRAIN, stratify=digits.target, random_state=0)
    for strength in (0.0, 1e-2):
        net = make_net()
        optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
        handle = attach(optimizer, net, "l2", strength=strength)
        order = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
            losses = []
            for chosen in torch.tensor(train)[torch.randperm(TRAIN, generator=order)].split(BATCH):
                loss = F.cross_entropy(net(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        terms = handle.objective(sum(losses) / len(losses))
        with torch.no_grad():
            accuracy = (net(images[test]).argmax(1) == labels[test]).float().mean()
        print(f"λ = {strength:g}: L_original {terms.original:.4f} + λR {terms.penalty:.4f} = L {terms.total:.4f}")
        print(f"  accuracy on {len(test)} unseen digits: {accuracy:.4f}")


if __name__ == "__main__":
    main()
