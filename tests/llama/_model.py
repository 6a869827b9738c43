"""A tiny language model of random weights, written where and when a test needs it.

Two layers of width 64 over a vocabulary of single bytes, half a megabyte in all. It knows
nothing, but it is a real model to a real inference server: prompts are tokenized, tokens are
sampled, usage is counted.

Random weights would say mostly control bytes and broken UTF-8. So the first feature of the
residual stream is the same large number for every token, and the output row of each token
weighs it: up for printable ASCII, down for the rest. That is a bias by other means, since the
architecture has none.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
LAYERS = 2
HEADS = 4
FEED_FORWARD = 128
CONTEXT = 2048
SEED = 8400
STEADY = 6.0
"""The feature that is the same for every token."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary() -> tuple[list[bytes], list[float], list[int]]:
    """Give tokens, scores and types: three control tokens, every byte, and the space's sign."""
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>"]
    types = [int(kinds.UNKNOWN), int(kinds.CONTROL), int(kinds.CONTROL)]
    tokens += [f"<0x{byte:02X}>".encode() for byte in range(256)]
    types += [int(kinds.BYTE)] * 256
    # SentencePiece writes a space as U+2581; then printable ASCII as tokens of their own.
    printable = ["\u2581", *(chr(code) for code in range(0x21, 0x7F))]
    tokens += [text.encode() for text in printable]
    types += [int(kinds.NORMAL)] * len(printable)
    return tokens, [0.0] * len(tokens), types


def write_model(path: Path) -> None:
    """Write the model to `path`, the same bytes each time."""
    tokens, scores, types = vocabulary()
    random = np.random.default_rng(SEED)

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("taximeter-tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)

    embedding = weights(len(tokens), WIDTH)
    embedding[:, 0] = STEADY
    output = weights(len(tokens), WIDTH)
    normal = int(gguf.TokenType.NORMAL)
    output[:, 0] = [1.0 if kind == normal else -1.0 for kind in types]
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_gate.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", weights(WIDTH, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
