"""How many images at once evaluation should compute. Usage: python -m benchmarks.batches APPROACH

After `dvc repro`, in the folder where that ran: the whole network on the test split, from decoded
pixels, with each batch size; images per second and memory on the device.
"""

import sys
import time
from pathlib import Path

import torch

from pipeline.base.errors import UserError, for_people
from pipeline.compute.device import setup_torch
from pipeline.models import frozen
from pipeline.models.files import load_model
from pipeline.params import load_params
from stages._inputs import open_cache, open_views

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("usage: python -m benchmarks.batches APPROACH")
    params = load_params("params.yaml")
    device = setup_torch(params.runtime.device, params.threads)
    model = load_model(Path(f"models/{sys.argv[1]}.safetensors"))
    network = model.classifier(device)
    views = open_views("test", model.preprocessing, params.runtime, device)
    inputs = frozen.Inputs(views, [], open_cache(params.runtime))
    frozen.logits(network, inputs)  # starts the device and decodes
    print("batch  images/s  MiB on the device")
    for size in SIZES:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        frozen.CHUNK_CPU = size
        frozen.CHUNK_ACCELERATOR = size
        start = time.perf_counter()
        frozen.logits(network, inputs)
        rate = len(inputs) / (time.perf_counter() - start)
        memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0
        print(f"{size:5}  {rate:8,.0f}  {memory:17,.0f}", flush=True)


if __name__ == "__main__":
    with for_people():
        main()
