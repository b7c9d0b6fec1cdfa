"""Predict with a trained model, by torchvision and safetensors alone.

Usage: python predict_torchvision.py MODEL IMAGE
"""

import json
import sys

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import get_model
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

with safe_open(sys.argv[1], "pt") as file:
    header = json.loads(file.metadata()["model"])
model = get_model(header["network"], num_classes=len(header["classes"]))
model.load_state_dict(load_file(sys.argv[1]))
model.eval()

normalize = Normalize(header["mean"], header["std"])
transform = Compose([Resize(header["resize"]), CenterCrop(header["crop"]), ToTensor(), normalize])
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
pixels = transform(image)[None]
with torch.inference_mode():
    views = [pixels, pixels.flip(-1)] if header["flip_averaging"] else [pixels]
    probabilities = sum(model(view)[0] for view in views).div(len(views)).softmax(0)
top = probabilities.topk(min(5, len(probabilities)))
for probability, place in zip(top.values, top.indices, strict=True):
    print(f"{probability:.4f} {header['classes'][place]}")
