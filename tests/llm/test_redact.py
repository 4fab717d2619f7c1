"""Credentials are removed from texts; the contents of prompts are left alone."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.config.schema import PromptConfig
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.prompt import render
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.llm.redact import REDACTED, redacted, scrub
from colt_pipeline.records import ProgramView
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.serialization import digest
from tests.llm.contexts import CONTEXT, WITH_SITES
from tests.support import ROOT
from tests.toy import SMALL, ToyClient

LETTERS = string.ascii_letters + string.digits
BASE64_URL = LETTERS + "-_"


def body(least: int, alphabet: str = LETTERS) -> st.SearchStrategy[str]:
    """Random characters as in keys, with at least one digit."""
    return st.builds("{}7{}".format, st.text(alphabet, min_size=least), st.text(alphabet, max_size=20))


def pem(inside: str) -> str:
    return f"-----BEGIN RSA PRIVATE KEY-----\n{inside}\n-----END RSA PRIVATE KEY-----"


KINDS: Mapping[str, st.SearchStrategy[str]] = {
    "openai": body(20, BASE64_URL).map("sk-{}".format),
    "openai project": body(40, BASE64_URL).map("sk-proj-{}".format),
    "hugging face": body(30).map("hf_{}".format),
    "nvidia": body(40, BASE64_URL).map("nvapi-{}".format),
    "github": st.builds("{}_{}".format, st.sampled_from(["ghp", "gho", "ghs"]), body(36)),
    "github, fine grained": body(40, LETTERS + "_").map("github_pat_{}".format),
    "aws": st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16).map("AKIA{}".format),
    "json web token": st.builds(
        "eyJ{}.eyJ{}.{}".format, body(20, BASE64_URL), body(20, BASE64_URL), body(30, BASE64_URL)
    ),
    "private key": body(60, LETTERS + "+/\n").map(pem),
}
CREDENTIALS = st.one_of(*KINDS.values())
NAMED = st.builds(
    lambda name, value: (name, value),
    st.sampled_from(["api_key=", "API-KEY = '", '"token": "', "token: ", "PASSWORD=", '\\"secret\\": \\"', "Bearer "]),
    body(20),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(BASE64_URL + " .:=\\\n\"'[]", max_size=40),
    CREDENTIALS,
    st.sampled_from(["token=", "sk-", "Bearer ", "-----BEGIN PRIVATE KEY-----", "eyJ", "api_key: ", REDACTED]),
)


@given(st.lists(TEXTS, max_size=3).map("".join), CREDENTIALS, st.lists(TEXTS, max_size=3).map("".join))
def test_a_credential_never_survives_wherever_it_stands(before: str, credential: str, after: str) -> None:
    clean = redacted(before + credential + after)
    assert credential not in clean and REDACTED in clean
    assert redacted(clean) == clean


@given(st.lists(TEXTS, max_size=3).map("".join), NAMED, st.lists(TEXTS, max_size=3).map("".join))
def test_nor_does_a_value_whose_name_says_what_it_is(before: str, named: tuple[str, str], after: str) -> None:
    name, value = named
    clean = redacted(before + name + value + after)
    assert value not in clean
    assert redacted(clean) == clean


@given(st.lists(TEXTS, max_size=4).map("".join), st.text(min_size=8, max_size=20))
def test_known_secrets_go_whatever_they_look_like(text: str, secret: str) -> None:
    assert not any(secret in part for part in scrub(text + secret + text, [secret]).split(REDACTED))
    assert scrub(text, []) == redacted(text)


def test_what_stands_around_a_credential_stays() -> None:
    assert redacted("a sk-proj-0123456789abcdefghij b") == f"a {REDACTED} b"
    assert redacted("Authorization: Bearer abcdefghijklmnop, yes") == f"Authorization: Bearer {REDACTED}, yes"
    assert redacted('{"api_key": "0123456789abcdef"}') == f'{{"api_key": "{REDACTED}"}}'
    assert redacted(f"x{pem('MIIE')}y") == f"x{REDACTED}y"
    assert redacted("-----BEGIN PRIVATE KEY-----\nMIIEcut/off+") == REDACTED
    assert scrub("one my-own-word two none", ["my-own-word", "none", ""]) == f"one {REDACTED} two none"


def test_one_credential_inside_another_leaves_no_half() -> None:
    assert redacted("token=0123456789abcdeftoken: fedcba9876543210") == f"token={REDACTED}: {REDACTED}"
    assert redacted("sk-0123456789abcdefgh_api_key=SECRET0SECRET0SECRET") == f"{REDACTED}={REDACTED}"


HOSTILE = [
    "sk-",
    "nvapi-",
    "hf_",
    "ghp_",
    "github_pat_",
    "eyJ",
    "eyJaaaaaaaa.",
    "AKIA",
    "token=",
    "token",
    "api_key",
    "Bearer ",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "-----END ",
    "-----BEGIN PRIVATE KEY",
]


@pytest.mark.parametrize("prefix", HOSTILE)
def test_prefixes_by_the_hundred_thousand_end(prefix: str) -> None:
    """Megabytes of prefixes: in quadratic time none of these would finish."""
    repeated = prefix * (1_000_000 // len(prefix))
    for secret in ("nvapi-0123456789abcdefghij", pem("MIIE")):
        clean = redacted(f"{repeated} {secret} end")
        assert secret not in clean and clean.endswith(f"{REDACTED} end")


PIECES = [
    *HOSTILE,
    "0123456789abcdefghij",
    "ABCDEFGHIJKLMNOP",
    "abcdefgh",
    "-----END PRIVATE KEY-----",
    *" \n\\\"'.:=_-0a",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_each_prefix_is_tried_wherever_it_stands(text: str) -> None:
    """Prefixes inside a run of characters are not read one by one, but none is missed."""
    clean = redacted(text)
    assert redacted(clean) == clean
    for begin in range(len(text)):
        tail = text[begin:]
        if re.match(
            r"sk-(?=[\w-]*\d)[\w-]{20,}|AKIA[0-9A-Z]{16}|github_pat_\w{20}|eyJ[\w-]{8,}\.[\w-]{8}", tail, re.ASCII
        ):
            assert redacted(tail).startswith(REDACTED) and REDACTED in clean


@pytest.mark.parametrize(
    "text",
    [
        digest("anything"),
        f"key: {digest('x')}",
        f"workload_hash={digest('y')}",
        "task-dependent-and-risk-averse-scheduling",
        "max_tokens: 1024, prompt_tokens=123456789012",
        'token: T.Buffer((T.int64(4), T.int64(4096)), "float32")',
        'secret = os.environ["A_NAME"]',
        "llvm -keys=cpu -mcpu=znver3 -mtriple=x86_64-unknown-linux-gnu",
        "deepseek-r1-distill-qwen-32b: parameters=32B, calls=0, hit_rate=0.000, errors=0",
    ],
)
def test_digests_targets_and_names_pass(text: str) -> None:
    assert redacted(text) == text


def test_programs_and_prompts_pass() -> None:
    programs = sorted((ROOT / "results" / "workloads").glob("*.txt"))
    assert programs
    for path in programs:
        code = path.read_text()
        lineage = (ProgramView(code, ('b0 = sch.get_sblock(name="matmul", func_name="main")',), 0.5, "qwen3-8b"),)
        for context in (CONTEXT, WITH_SITES):
            for message in render(dataclasses.replace(context, lineage=lineage)):
                assert redacted(message["content"]) == message["content"]


def test_a_question_is_redacted_before_its_key_is_computed(tmp_path: Path) -> None:
    client = ToyClient("")
    cassette = Cassette(tmp_path / "llm.jsonl", lambda provider: client, Stopwatch())
    proposer = Proposer(cassette, {}, PromptConfig(code="full", order="listed", trace="changes"), seed=0)
    secret = "sk-0123456789abcdefghij"
    answers = [
        proposer.ask(SMALL, dataclasses.replace(CONTEXT, target=f"CPU {word}"), {}) for word in (secret, REDACTED)
    ]
    cassette.close()
    (asked,) = client.questions  # with or without the credential, it is the same question
    assert answers[0].key == answers[1].key == asked.key
    assert secret not in str(asked.messages) and REDACTED in asked.messages[0]["content"]
