"""What is used of torchvision, imported in a tenth of the time.

torchvision.ops.roi_align imports torch._dynamo, which takes as long as torch itself, for one function that no
classifier calls. Here it finds a stand-in for that function, which imports the real one when it is called.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def _is_compile_supported(device: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


@contextmanager
def _dynamo_put_off() -> Iterator[None]:
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


with _dynamo_put_off():
    import torchvision.models
    from torchvision.datasets import Flowers102
    from torchvision.models import get_model, get_model_weights, list_models
    from torchvision.ops import StochasticDepth

__all__ = ["Flowers102", "StochasticDepth", "get_model", "get_model_weights", "list_models", "torchvision"]
