"""A training loop of one's own: a small U-Net on composed scenes of handwritten digits, decay attached in one line.

Run: python examples/plain_loop.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from segdecay.data.formats.digits import compose_scenes
from segdecay.decay import attach
from segdecay.models.unet import UNet

EPOCHS, BATCH, CLASSES = 6, 8, 11


def tensors(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, 48, 48) in 0 … 1 and masks (N, 48, 48), 0 is background."""
    scenes = compose_scenes(n_train=64, n_test=16)[part]
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(scenes.masks).long()


def main() -> None:
    """Train on 64 scenes, print the objective every epoch and how many unseen pixels are right."""
    torch.manual_seed(0)
    images, masks = tensors("train")
    net = UNet(in_channels=3, classes=CLASSES, width=8, depth=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    handle = attach(optimizer, net, "l2", strength=1e-3)  # weights decay; norm layers and biases do not
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(net(images[chosen]), masks[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # clips the loss's gradient, not the penalty's
            optimizer.step()  # λ·w is added here
            losses.append(loss.item())
        terms = handle.objective(sum(losses) / len(losses))
        print(f"epoch {epoch}: L_original {terms.original:.4f} + λR {terms.penalty:.4f} = L {terms.total:.4f}")
    handle.detach()
    net.eval()
    images, masks = tensors("test")
    with torch.no_grad():
        hits = (net(images).argmax(1) == masks).float().mean()
    print(f"pixels right in unseen scenes: {hits:.3f} (always background: {(masks == 0).float().mean():.3f})")


if __name__ == "__main__":
    main()
