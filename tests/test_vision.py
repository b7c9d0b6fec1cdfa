"""torchvision without the half of its import time that nothing here needs."""

import subprocess
import sys

from tools.sandbox import PROJECT


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_starting_a_stage_does_not_import_dynamo() -> None:
    python("""
import sys
import stages.evaluate, stages.features, stages.inspect, stages.train, torch
from pipeline.runtime import torch_device
torch_device("cpu", 1)
assert torch.are_deterministic_algorithms_enabled()
assert "torch._dynamo" not in sys.modules
""")


def test_stages_that_compute_nothing_with_torch_do_not_import_it() -> None:
    python("import sys, stages.compare, stages.download, stages.prepare; assert 'torch' not in sys.modules")


def test_who_needs_dynamo_in_torchvision_still_gets_it() -> None:
    python("""
import sys
import pipeline.vision
module = sys.modules["torchvision.ops.roi_align"]
answer = module.is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
assert is_compile_supported is not module.is_compile_supported
assert answer == is_compile_supported("cpu")
""")
