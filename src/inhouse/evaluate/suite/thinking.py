"""What a verifier is given of a reply: what stands behind the model's thinking. No torch.

An instruction to use no comma is for the answer, not for what leads to it. Most endpoints tell the two apart; our
engine, and endpoints without a parser for it, give both in one text.
"""

OPEN, CLOSE = "<think>", "</think>"  # of Qwen3, GLM-4.5, DeepSeek-R1 and our own template


def without_thinking(reply: str, prompt: str = "") -> str:
    """The answer; empty where the reply ended while the model still thought. `prompt` may have opened the thinking."""
    thought, closed, answer = reply.partition(CLOSE)
    is_open = prompt.rstrip().endswith(OPEN) or thought.lstrip().startswith(OPEN)
    if closed and (is_open or OPEN not in thought):
        return answer.lstrip()
    return "" if is_open else reply
