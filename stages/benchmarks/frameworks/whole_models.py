"""Models of the benchmark ``models``, also for ``workload.source``: each function returns a module and its inputs.

Weights are random, with fixed seeds: a latency does not depend on them. Packages are imported where they are needed,
so that each model asks only for its own.
"""

from __future__ import annotations

from typing import Any

TOKENS = 128


def resnet18() -> tuple[Any, tuple[Any, ...]]:
    """ResNet-18 of torchvision, for one picture of 224 x 224."""
    import torch
    from torchvision.models import resnet18 as make

    torch.manual_seed(0)
    return make(weights=None).eval(), (torch.randn(1, 3, 224, 224),)


def bert_layer() -> tuple[Any, tuple[Any, ...]]:
    """One encoder layer of BERT-base, for 128 tokens."""
    import torch
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    torch.manual_seed(0)
    config = BertConfig()
    config._attn_implementation = "sdpa"
    return BertLayer(config).eval(), (torch.randn(1, TOKENS, config.hidden_size),)


def gpt2_block() -> tuple[Any, tuple[Any, ...]]:
    """One block of GPT-2 small, for 128 tokens."""
    import torch
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    torch.manual_seed(0)
    config = GPT2Config()
    config._attn_implementation = "sdpa"
    return GPT2Block(config).eval(), (torch.randn(1, TOKENS, config.hidden_size),)
