"""What a model knows: how similar an image is to those that the model was trained on.

By deep nearest neighbours (Sun et al., ICML 2022, https://arxiv.org/abs/2204.06507): what goes into
the head is compared with that of the training images. docs/unknown.md has what this finds.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

MOST = 10_000  # training images that are kept, evenly over the split


class Classifier(nn.Module):
    """A network as it is used: pixels, or what its frozen part makes of them, to answers.

    Answers are float32 [n, classes + 1]: calibrated logits, whose softmax gives probabilities that
    are right as often as they say, and the similarity (:func:`similarity`).
    """

    known: Tensor

    def __init__(self, network: nn.Module, classes: int, temperature: float, known: Tensor) -> None:
        """Put a trained network to use.

        Args:
            network: gives logits and features, as :func:`pipeline.models.freezing.with_features`.
            classes: their number.
            temperature: the logits are divided by it.
            known: by :func:`keep`.
        """
        super().__init__()
        self.network = network
        self.classes = classes
        self.temperature = temperature
        self.register_buffer("known", known.float())

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.network(inputs).float()
        logits = outputs[:, : self.classes] / self.temperature
        nearest = similarity(outputs[:, self.classes :], self.known)
        return torch.cat([logits, nearest[:, None]], 1)


def split_answers(answers: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] and similarity [n] of what a :class:`Classifier` gives."""
    return answers[:, :-1], answers[:, -1]


def keep(features: Tensor) -> Tensor:
    """What is kept of the training images' features: float16 [at most ``MOST``, values], of norm 1.

    Args:
        features: float32 [n, values].
    """
    step = -(-len(features) // MOST)
    return normalize(features[::step]).half()


def similarity(features: Tensor, known: Tensor) -> Tensor:
    """The cosine with the most similar training image, float32 [n]; infinite if none is kept.

    Args:
        features: float32 [n, values].
        known: by :func:`keep`, as float32.
    """
    if not len(known):
        return torch.full_like(features[:, 0], torch.inf)
    return (normalize(features) @ known.T).amax(1)


def known_from(similar: Tensor, share: float) -> float | None:
    """The similarity from which on an image counts as known.

    Args:
        similar: of validation images, float32 [n].
        share: of these that count as known at least, 0 to 1.

    Returns:
        -1 to 1; None where the images are too few for one of them to be unknown.
    """
    unknown = int(len(similar) * (1 - share) + 1e-9)
    if not unknown:
        return None
    return round(similar.sort().values[unknown].item(), 6)
