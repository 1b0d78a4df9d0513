"""MONAI's UNet as a peer: trained for the given time on the labelled voxels of a case."""

from __future__ import annotations

import time

import numpy as np

from cases import Case
from SparseSegNetLib.annotation.composition import UNLABELLED

SEED = 0
THREADS = 2


def monai_unet(case: Case, budget: float) -> np.ndarray:
    """MONAI's UNet with the same masked loss, patches around labelled voxels, flips and
    intensity augmentation, sliding-window inference."""
    import torch
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import UNet
    from monai.transforms import Compose, RandAffined, RandGaussianNoised, RandScaleIntensityd

    from SparseSegNetLib.engine.compute.losses import masked_cross_entropy, masked_dice_loss

    begun = time.monotonic()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(SEED)
    image = case.image.astype(np.float32)
    image = torch.from_numpy((image - image.mean()) / max(1e-6, image.std()))[None]
    labels = torch.from_numpy(case.sparse)[None]
    size = tuple(min(64, max(16, -(-n // 16) * 16)) for n in image.shape[1:])
    pad = [
        (max(0, s - n) // 2, max(0, s - n) - max(0, s - n) // 2)
        for s, n in zip(size, image.shape[1:], strict=True)
    ]
    flat = [x for pair in reversed(pad) for x in pair]
    padded = torch.nn.functional.pad(image[None], flat, "replicate")[0]
    padded_labels = torch.nn.functional.pad(labels, flat, value=UNLABELLED)
    vary = Compose(
        [
            RandAffined(
                ("image", "label"),
                prob=0.7,
                rotate_range=(0.3,) * 3,
                scale_range=(0.15,) * 3,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandScaleIntensityd("image", 0.2, prob=0.5),
            RandGaussianNoised("image", 0.3, std=0.1),
        ]
    )
    network = UNet(3, 1, len(case.segments) + 1, (16, 32, 64, 128), (2, 2, 2), num_res_units=2)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    known = [np.argwhere(padded_labels[0].numpy() == c) for c in range(len(case.segments) + 1)]
    known = [k for k in known if len(k)]
    while time.monotonic() - begun < 0.9 * budget:
        batch = []
        for _ in range(2):
            places = known[rng.integers(len(known))]
            centre = places[rng.integers(len(places))]
            low = [
                int(np.clip(c - s // 2, 0, n - s))
                for c, s, n in zip(centre, size, padded.shape[1:], strict=True)
            ]
            box = (slice(None), *(slice(a, a + s) for a, s in zip(low, size, strict=True)))
            batch.append(vary({"image": padded[box], "label": padded_labels[box].float()}))
        pixels = torch.stack([b["image"].as_tensor() for b in batch])
        truth = torch.stack([b["label"].as_tensor()[0] for b in batch]).round().to(torch.uint8)
        logits = network(pixels)
        loss = masked_cross_entropy(logits, truth) + masked_dice_loss(logits, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        found = (
            sliding_window_inference(
                padded[None], size, 2, network.eval(), overlap=0.25, mode="gaussian"
            )[0]
            .argmax(dim=0)
            .to(torch.uint8)
        )
    inner = tuple(slice(a, a + n) for (a, _), n in zip(pad, image.shape[1:], strict=True))
    return found[inner].numpy()
