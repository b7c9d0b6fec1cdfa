"""Make tests/backbone.safetensors again, with which the tests' tiny runs begin.

Usage: python -m tests.pretrain (seconds)
"""

from pathlib import Path

from pipeline.base.errors import for_people
from tools.pretrain import Settings, write_backbone

SETTINGS = Settings(
    network="shufflenet_v2_x0_5",  # 0.3 million weights
    seed=2,
    species=3,
    images_per_species=8,
    size=36,
    crop=32,
    epochs=10,
    batch_size=4,
    learning_rate=1.0e-2,
    threads=1,
)

if __name__ == "__main__":
    with for_people():
        write_backbone(Path(__file__).with_name("backbone.safetensors"), SETTINGS)
