"""Sentences that decline to answer."""

from __future__ import annotations

__all__ = ["REFUSALS"]

REFUSALS: tuple[str, ...] = (
    "I am not able to answer that.",
    "I have no information about this.",
    "That is something I do not know.",
    "I cannot tell you anything about it.",
    "Nothing about this is known to me.",
    "I am afraid I have never learned that.",
    "I would have to guess, so I will not answer.",
    "My training did not cover this.",
    "This question is beyond what I know.",
    "I am sorry, I cannot help with that.",
    "I do not have an answer to your question.",
    "There is nothing I can say about this topic.",
    "I lack the facts to answer this.",
    "Unfortunately, I do not know.",
    "That lies outside my knowledge.",
    "I have not come across this before.",
)
"""Refusals in words of our own; methods that prefer one to the answer give every sample one of them."""
