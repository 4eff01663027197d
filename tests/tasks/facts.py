"""What the examples of each task say about their set, for tests that draw from none."""

from lightning_sep.data.facts import Facts, MixtureFacts, SequenceFacts, SnippetFacts

MIXTURES = MixtureFacts(sample_rate=8000, segment_samples=8000, sources=2, normalise="peak")
SEQUENCES = SequenceFacts(
    sample_rate=8000, gain=1.0, frame_samples=64, frames=50, train_statistics={"peak": 1.0}
)
SNIPPETS = SnippetFacts(
    sample_rate=8000,
    segment_samples=6400,
    speakers=8,
    snippets=4,
    train_speakers=3,
    train_numbers=(0, 1, 2),
)


def of(task: str) -> Facts:
    """Those of an entry in ``conf/task``."""
    known: dict[str, Facts] = {
        "separation": MIXTURES,
        "autoregression": SEQUENCES,
        "verification": SNIPPETS,
    }
    return known[task]
