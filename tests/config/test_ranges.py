"""Every number has a range and every name a form; what is outside is one message."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from colt_pipeline.config.compose import composed as of_project
from colt_pipeline.config.ranges import FORMS, RANGES, check_ranges
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from tests.support import Compose


def leaves(kind: Any, key: str = "") -> dict[str, Any]:
    """The keys of the schema as the tables write them -> type."""
    if get_origin(kind) is UnionType:
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is dict:
        return leaves(get_args(kind)[1], f"{key}.*")
    if not is_dataclass(kind):
        return {key: kind}
    hints = get_type_hints(kind)
    return {k: v for f in fields(kind) for k, v in leaves(hints[f.name], f"{key}.{f.name}".lstrip(".")).items()}


def test_every_number_of_the_schema_has_a_range_and_every_range_a_number() -> None:
    assert {key for key, kind in leaves(Config).items() if kind in (int, float)} == set(RANGES)
    assert set(FORMS) <= {key for key, kind in leaves(Config).items() if kind in (str, list[str])}


@pytest.mark.parametrize("key", [key for key, kind in leaves(Config).items() if kind is float])
def test_no_float_may_be_nan_or_huge_or_negative(composed: Compose, key: str) -> None:
    group = "search=evolutionary" if "evolution" in key else "target=gpu" if "gpu" in key else "model_set=8"
    config = composed(group)
    *parts, last = (part.replace("*", {"models": "qwen3-8b"}.get(key[:6], "openai")) for part in key.split("."))
    owner: Any = config
    for part in parts:
        owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
    named = ".".join([*parts, last])
    for value in (math.nan, math.inf, -math.inf, 1e300, -1e-300):
        setattr(owner, last, value)
        with pytest.raises(ConfigError) as raised:
            check_ranges(config)
        assert str(raised.value).startswith(f"{named}={value} must be at ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.qwen3-8b.parameters_b=1e-300", "models.qwen3-8b.parameters_b=1e-300 must be at least 0.0001"),
        ("models.qwen3-8b.context_length=-1", "context_length=-1 must be at least 0"),
        ("samples=100000000000000000000", "must be at most 1e+07"),
        ("seed=99999999999999999999999", "must be at most"),
        ("workload.shape.inner=-5", "workload.shape.inner=-5 must be at least 1"),
        ("target.l2_kib=-1", "target.l2_kib=-1 must be at least 0"),
        ("providers.nscale.timeout_secs=1e-300", "must be at least 0.001"),
        ("providers.nscale.attempts=1000000000", "must be at most 1000"),
        ("budget.warmup_samples=-1", "budget.warmup_samples=-1 must be at least 1"),
        ("rpc.port=70000", "rpc.port=70000 must be at most 65535"),
    ],
)
def test_a_number_out_of_range_is_named(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed("model_set=8", override)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1/v1", "http://localhost:99999/v1", "http://localhost:x/v1", "https://a b/v1", "https:///v1"),
        *("", "ftp://h/v1", "//h/v1"),
    ],
)
def test_an_impossible_address_is_named(composed: Compose, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^providers\.nscale\.base_url=.* is not a valid URL"):
        composed(f"providers.nscale.base_url='{url}'")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *((f"run={run}", "is not a valid name") for run in ("", "-x", "a/../b", "a//b", "a/", "/a", "a/./b", "a/-b")),
        ("run=" + "x" * 300, "has 300 characters, which is too long"),
        ("run='" + "\u00e4" * 150 + "'", "has 150 characters, which is too long"),
        ("run=" + "a/" * 1500 + "b", "has 3001 characters, which is too long"),
        ("run='a\x1bb'", r"run='a\x1bb' contains a control character"),
        ("run='a\nb'", r"run='a\nb' contains a control character"),
        ("run='a\0b'", r"run='a\x00b' contains a control character"),
        ("run='\udcff'", r"run='\udcff' contains a control character"),
        ("results=", "results= is empty"),
        ("results=" + "x" * 300, "has 300 characters, which is too long"),
        ("pretraining=", "pretraining= is empty"),
        ("start_from=''", "start_from= is empty"),
        ("models.qwen3-8b.api_model=", "models.qwen3-8b.api_model= is empty"),
        ("providers.openai.key_env='A=B'", "is not the name of an environment variable"),
        ("search.name='a\x07'", "contains a control character"),
        ("+model_sets.own=['a\x07']", r"model_sets.own='a\x07' contains a control character"),
    ],
)
def test_a_name_that_is_none_is_one_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        of_project(["model_set=8", override])
    assert message in str(raised.value) and len(str(raised.value)) < 400
    assert not any(c in str(raised.value) for c in "\x00\x07\x1b")


@pytest.mark.parametrize("run", ["a..b", "b[2]", "a*", "x" * 255, "mine/a.b-c"])
def test_unusual_names_are_possible(composed: Compose, run: str) -> None:
    assert composed(f"run='{run}'").run == run
