"""A torchvision detector, not a segmentation network: SSDlite from random weights on composed squares.

Its optimizer decays already; take_over=True replaces that by the regularizer and gives it back on detach.
Run: python examples/torchvision_detector.py
"""

from __future__ import annotations

import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from segdecay.decay import attach, group_parameters

STEPS, BATCH, SIDE = 6, 4, 96


def make_batch(generator: torch.Generator) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Images (3, 96, 96) with one bright (class 1) or dark (class 2) square each, and its box."""
    images, targets = [], []
    for _ in range(BATCH):
        size = int(torch.randint(20, 50, (1,), generator=generator))
        left, top = torch.randint(0, SIDE - size, (2,), generator=generator).tolist()
        label = int(torch.randint(1, 3, (1,), generator=generator))
        image = torch.rand(3, SIDE, SIDE, generator=generator) * 0.2 + 0.4
        image[:, top : top + size, left : left + size] = 1.0 if label == 1 else 0.0
        box = torch.tensor([[left, top, left + size, top + size]], dtype=torch.float32)
        images.append(image)
        targets.append({"boxes": box, "labels": torch.tensor([label])})
    return images, targets


def main() -> None:
    """Print the parameter table, take a few steps, give the optimizer its own decay back."""
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)  # decays all by 0.01, norm layers too
    # One head per feature level and task; found by itself would be the last level of each alone.
    partition = group_parameters(model, head="head.*_head.module_list.*.1")
    table = partition.table().splitlines()
    print("\n".join([table[0], *[line for line in table if line.startswith(("head", "encoder:", "body:", "norm:"))]]))
    handle = attach(
        optimizer,
        model,
        "decoupled",
        strength=0.05,
        partition=partition,
        multipliers={"head": 0.1},
        take_over=True,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(1, STEPS + 1):
        loss = sum(model(*make_batch(generator)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        terms = handle.objective(loss)
        print(f"step {step}: L_original {terms.original:.4f} + λR {terms.penalty:.4f} = L {terms.total:.4f}")
    handle.detach()
    print(f"weight_decay of the optimizer after detach: {optimizer.param_groups[0]['weight_decay']}")


if __name__ == "__main__":
    main()
