"""Predict with an exported model, by onnxruntime, numpy and Pillow.

Usage: python predict_onnx.py MODEL.onnx IMAGE
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
notes = session.get_modelmeta().custom_metadata_map
classes, transforms = json.loads(notes["classes"]), json.loads(notes["transforms"])

image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
(width, height), side = image.size, transforms["resize"]
size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
image = image.resize(size, Image.Resampling.BILINEAR)
crop = transforms["crop"]
left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32) / 255
pixels = (pixels - np.float32(transforms["mean"])) / np.float32(transforms["std"])

(logits,) = session.run(["logits"], {"pixels": pixels.transpose(2, 0, 1)[None]})[0]
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for place in probabilities.argsort()[::-1][:5]:
    print(f"{probabilities[place]:.4f} {classes[place]}")
