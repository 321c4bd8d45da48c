"""transformers.Trainer with a tiny SegFormer, made from its configuration with random weights: decay is one callback.

Run: python examples/transformers_segformer.py   (needs: pip install 'segdecay[transformers]')
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainerCallback, TrainingArguments

from segdecay.data.formats.digits import compose_scenes
from segdecay.decay import Strength
from segdecay.integrations.transformers import TransformersDecay

TOTAL_DECAY = 0.02


class Scenes(Dataset[dict[str, torch.Tensor]]):
    """Composed scenes of handwritten digits, under the names that SegFormer's forward has."""

    def __init__(self) -> None:
        scenes = compose_scenes(n_train=32, n_test=1)["train"]
        self.images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2).float() / 255
        self.masks = torch.from_numpy(scenes.masks).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.images[index], "labels": self.masks[index]}


class Objective(TrainerCallback):
    """Prints the terms of the objective at every log."""

    def __init__(self, decay: TransformersDecay) -> None:
        self.decay = decay

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control
        if "loss" in kwargs["logs"]:
            terms = self.decay.handles[0].objective(float(kwargs["logs"]["loss"]))
            said = f"L_original {terms.original:.4f} + λR {terms.penalty:.4f} = L {terms.total:.4f}"
            print(f"epoch {state.epoch:g}: {said}")


def main() -> None:
    """Train on 32 scenes."""
    torch.manual_seed(0)
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 4]}
    model = SegformerForSemanticSegmentation(SegformerConfig(**sizes, decoder_hidden_size=32, num_labels=11))
    decay = TransformersDecay(
        "decoupled", strength=Strength.from_total_decay(TOTAL_DECAY)
    )  # λ follows from the schedule
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=6,
            per_device_train_batch_size=4,
            learning_rate=5e-3,
            max_grad_norm=1.0,
            logging_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        Trainer(model, arguments, train_dataset=Scenes(), callbacks=[decay, Objective(decay)]).train()
    print(f"λ = {decay.handles[0].strength:.4f}, from D = {TOTAL_DECAY} over {decay.handles[0].steps} steps")


if __name__ == "__main__":
    main()
