"""Predict with an exported model, by onnxruntime, numpy and Pillow.

Usage: python predict_onnx.py MODEL.onnx IMAGE

What predict reads in another way: colour of 12 bits in 16, PGM whose white is less than
65,535, TIFF whose white is 0, whole numbers above 2,147,483,647, transparency in grey of 16 bits.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
notes = session.get_modelmeta().custom_metadata_map
classes, transforms = json.loads(notes["classes"]), json.loads(notes["transforms"])
limits = json.loads(notes["limits"])

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
(width, height), side, crop = image.size, transforms["resize"], transforms["crop"]
if transforms["fit"] == "pad":
    longer = max(width, height)
    size = max(1, int(crop * width / longer)), max(1, int(crop * height / longer))
    colour = tuple(round(255 * channel) for channel in transforms["mean"])
    square = Image.new("RGB", (crop, crop), colour)
    corner = (crop - size[0]) // 2, (crop - size[1]) // 2
    square.paste(image.resize(size, Image.Resampling.BILINEAR), corner)
else:
    is_upright = width <= height
    size = (side, int(side * height / width)) if is_upright else (int(side * width / height), side)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
    square = image.crop((left, top, left + crop, top + crop))
pixels = np.asarray(square, np.float32) / 255
pixels = (pixels - np.float32(transforms["mean"])) / np.float32(transforms["std"])

inputs = {"pixels": pixels.transpose(2, 0, 1)[None]}
(probabilities,), (similarity,) = session.run(["probabilities", "similarity"], inputs)
if similarity < limits["known_from"]:
    print("none of these: it is like no training image")
elif probabilities.max() < limits["sure_from"]:
    print("unsure")
for place in probabilities.argsort()[::-1][:5]:
    print(f"{probabilities[place]:.4f} {classes[place]}")
