"""Predict with a trained model, by torchvision and safetensors alone.

Usage: python predict_torchvision.py MODEL IMAGE

What predict reads in another way: colour of 12 bits in 16, PGM whose white is less than
65,535, TIFF whose white is 0, whole numbers above 2,147,483,647, transparency in grey of 16 bits.
"""

import json
import sys

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import normalize
from torchvision.models import get_model
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

with safe_open(sys.argv[1], "pt") as file:
    header = json.loads(file.metadata()["model"])
model = get_model(header["network"], num_classes=len(header["classes"]))
weights = load_file(sys.argv[1])
known = weights.pop("known").float()  # features of the training images
model.load_state_dict(weights)
model.eval()
head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
seen = []  # what goes into the head
head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))

image = ImageOps.exif_transpose(Image.open(sys.argv[2]))
if image.mode.startswith(("I", "F")):  # grey of more than 8 bits: white is what its values suggest
    grey = np.asarray(image, np.float64)
    black, white = min(grey.min(), 0), grey.max()
    if black == 0 and image.mode == "F" and white < 2:
        white = 1
    elif black == 0:
        white = next((value for value in (255, 4095, 65535) if white <= value), white)
    grey = (grey - black) * (255 / ((white - black) or 1))
    image = Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))
image = image.convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
crop = header["crop"]
if header["fit"] == "pad":
    size = [max(1, int(crop * length / max(image.size))) for length in image.size]
    colour = tuple(round(255 * channel) for channel in header["mean"])
    square = Image.new("RGB", (crop, crop), colour)
    corner = (crop - size[0]) // 2, (crop - size[1]) // 2
    square.paste(image.resize(size, Image.Resampling.BILINEAR), corner)
else:
    square = Compose([Resize(header["resize"]), CenterCrop(crop)])(image)
pixels = Compose([ToTensor(), Normalize(header["mean"], header["std"])])(square)[None]
with torch.inference_mode():
    views = [pixels, pixels.flip(-1)] if header["flip_averaging"] else [pixels]
    logits = sum(model(view)[0] for view in views).div(len(views))
probabilities = (logits / header["temperature"]).softmax(0)
features = normalize(sum(seen) / len(seen))
if len(known) and (features @ known.T).max() < header["known_from"]:
    print("none of these: it is like no training image")
elif probabilities.max() < header["sure_from"]:
    print("unsure")
top = probabilities.topk(min(5, len(probabilities)))
for probability, place in zip(top.values, top.indices, strict=True):
    print(f"{probability:.4f} {header['classes'][place]}")
