"""Softmax cross-entropy over the training speakers, for embeddings."""

from torch import Tensor, nn

from lightning_sep.losses.base import ClassLoss


class CrossEntropy(ClassLoss):
    """A linear layer on the embedding and softmax cross-entropy, as for x-vectors (Snyder et al.,
    "X-vectors: robust DNN embeddings for speaker recognition", ICASSP 2018).

    Args:
        embed: numbers in an embedding; filled in by the task.
        classes: speakers of the training part; filled in by the task.

    Raises:
        ConfigError: fewer than two classes.

    Example:
        >>> import torch
        >>> loss = CrossEntropy(embed=2, classes=3)
        >>> loss(embedding=torch.zeros(4, 2), classes=torch.tensor([0, 1, 2, 2])).shape
        torch.Size([4])
    """

    def __init__(self, *, embed: int, classes: int) -> None:
        super().__init__(embed=embed, classes=classes)
        self.classifier = nn.Linear(embed, classes)

    def logits(self, rows: Tensor, own: Tensor) -> Tensor:
        made: Tensor = self.classifier(rows.to(self.classifier.weight.dtype))
        return made
