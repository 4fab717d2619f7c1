"""An invalid configuration gives one message that names key, value and choices."""

import re

import pytest

from colt_pipeline.config.checks import SEARCH_CHOICES
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.costs import configured_prices
from tests.support import ROOT, Compose


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model_set=3", "model_set=3 is unknown; choose one of: small, large, 2, 4, 8"),
        ("samples=0", "samples=0 must be at least 1"),
        ("samples=-1", "samples=-1 must be at least 1"),
        ("search.sample=call", "search.sample=call counts calls, and with search.drafts programs are"),
        ("samples=many", "key samples: Value 'many'"),
        ("search.lambda_=2", "search.lambda_=2.0 must be at most 1"),
        ("search.c=wide", "key search.c: Value 'wide'"),
        ("+search.typo=1", "key search.typo"),
        ("+typo=1", "key typo"),
        ("record.mode=sometimes", "record.mode=sometimes is unknown; choose one of: replay, missing, all"),
        ("largest=gpt-6", "model in model_sets.8=gpt-6 is unknown"),
        ("run=../elsewhere", "run=../elsewhere is not a valid name"),
        ("measure.max_repeats=0", "measure.max_repeats=0 must be at least 1"),
        ("target.cores=-1", "target.cores=-1 must be at least 0"),
        ("search.c=inf", "search.c=inf must be at most 1e+06"),
        ("search.strategy=magic", "search.strategy=magic is unknown; choose one of: mcts, evolutionary"),
        ("search.strategy=evolutionary", "needs search.evolution; start from search=evolutionary"),
        ("model_sets.8=[]", "model_sets.8=[] must name at least one model"),
    ],
)
def test_bad_values_are_named(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed(override)
    assert message in str(raised.value)


@pytest.mark.parametrize("override", ["workload=resnet", "target=tpu", "search=magic", "typo=1"])
def test_unknown_choices_and_keys_are_refused_by_name(composed: Compose, override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[-1] if "typo" not in override else "typo"):
        composed(override)


def test_a_cost_model_needs_what_its_search_has(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="learns from the decisions of programs in a tree.*choose pretrained or xgb"):
        composed("search=evolutionary_8", "search.cost_model=adapted")
    with pytest.raises(ConfigError, match="search.cost_model=xgb cannot tell which drafts"):
        composed("search=colt_plus", "search.cost_model=xgb")


def test_drafts_need_a_choice_among_what_waits(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="search.candidates=0 .*no model would be asked again; give at least 1"):
        composed("search=colt_plus", "search.candidates=0")


def test_model_sets_are_those_of_the_paper(composed: Compose) -> None:
    names = {s: [m.name for m in composed(f"model_set={s}").model_specs] for s in ("small", "large", "2", "4", "8")}
    assert names["small"] == ["gpt-5-mini"]
    assert names["large"] == ["gpt-5.2"]
    assert set(names["2"]) < set(names["4"]) < set(names["8"])
    assert [len(names[s]) for s in ("2", "4", "8")] == [2, 4, 8]


def test_the_largest_model_can_be_replaced(composed: Compose) -> None:
    names = [m.name for m in composed("model_set=8", "largest=llama-3.3-70b-instruct").model_specs]
    assert "llama-3.3-70b-instruct" in names and "gpt-5.2" not in names


@pytest.mark.parametrize(
    ("largest", "message"),
    [("gpt-5-mini", "none twice"), ("llama-3.1-8b-instruct", "none twice"), ("qwen3-14b", "is not the largest model")],
)
def test_the_largest_model_must_be_the_largest(composed: Compose, largest: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("model_set=4", f"largest={largest}")


def test_a_model_set_of_ones_own_is_an_override(composed: Compose) -> None:
    config = composed("+model_sets.mine=[gpt-5.2,qwen3-8b]", "model_set=mine")
    assert [m.name for m in config.model_specs] == ["gpt-5.2", "qwen3-8b"]


def test_every_default_model_is_a_labelled_stand_in(composed: Compose) -> None:
    assert {m.provider for m in composed("model_set=8").model_specs} == {EMBEDDED}
    live = composed("model_set=8", "stand_ins=false").model_specs
    assert {m.provider for m in live} == {"openai", "nscale"} and live[0].json_schema


def test_only_live_models_have_prices(composed: Compose) -> None:
    assert configured_prices(composed("model_set=8")) == {}
    live = configured_prices(composed("model_set=2", "stand_ins=false"))
    assert {name: price and price.date for name, price in live.items()} == {
        "gpt-5.2": "2026-03",
        "gpt-5-mini": "2026-03",
    }
    assert configured_prices(composed("model_set=local")) == {"smollm2-135m-instruct": None}
    assert configured_prices(composed("search=evolutionary")) == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("llm.top_p=0", "llm.top_p=0.0 must be at least 1e-06"),
        ("llm.max_tokens=0", "llm.max_tokens=0 must be at least 1"),
        ("budget.run.usd=-1", "budget.run.usd=-1.0 must be at least 0"),
        ("budget.sweep.calls=many", "budget.sweep.calls"),
        ("prompt.code=short", "prompt.code=short is unknown; choose one of: outline, full, compact"),
        ("prompt.order=random", "prompt.order=random is unknown; choose one of: listed, seeded"),
        ("providers.nscale.base_url=nowhere", "providers.nscale.base_url=nowhere is not a valid URL"),
        ("providers.nscale.base_url=http://example.org/v1", "would send the key of NSCALE_SERVICE_TOKEN unencrypted"),
        ("providers.openai.base_url=https://me:secret@example.org/v1", "contains a user name or password"),
        ("providers.openai.attempts=0", "providers.openai.attempts=0 must be at least 1"),
        ("providers.openai.max_bytes=0", "providers.openai.max_bytes=0 must be at least 1"),
        ("providers.openai.proxy=nowhere", "providers.openai.proxy is not the address of an HTTP proxy; it must look"),
        ("providers.openai.proxy=https://proxy:1", "providers.openai.proxy is not the address of an HTTP proxy"),
        ("providers.openai.proxy='http://[::1'", "providers.openai.proxy is not the address of an HTTP proxy"),
        ("providers.openai.proxy=http://me:secret@proxy:1", "set providers.openai.proxy='${oc.env:VARIABLE}'"),
        ("llm.temperature=-1", "llm.temperature=-1.0 must be at least 0"),
        ("llm.temperature=nan", "llm.temperature=nan must be at least 0"),
        ("llm.max_tokens=null", "llm.max_tokens"),
        (
            "models.qwen3-8b.sampling.max_tokens=null",
            "models.qwen3-8b.sampling.max_tokens=None must be a whole number",
        ),
        ("models.qwen3-8b.sampling.max_tokens=0", "models.qwen3-8b.sampling.max_tokens=0 must be at least 1"),
        ("models.qwen3-8b.sampling.temperature=hot", "models.qwen3-8b.sampling.temperature=hot must be a number"),
        (
            "+models.qwen3-8b.sampling.heat=1",
            "parameter in models.qwen3-8b.sampling=heat is unknown; choose one of: ",
        ),
        ("models.qwen3-8b.provider=nowhere", "models.qwen3-8b.provider=nowhere is unknown; choose one of: embedded, "),
    ],
)
def test_a_bad_setting_of_the_llm_side_names_key_value_and_way_out(
    composed: Compose, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        composed("model_set=8", override)


def test_a_parameter_that_is_null_is_not_sent_by_any_model_or_by_one(composed: Compose) -> None:
    assert composed("llm.temperature=null").llm.sampling == {"max_tokens": 1024}
    config = composed("model_set=8", "stand_ins=false", "+models.devstral-small-2505.sampling.temperature=null")
    sampling = {model.name: dict(model.sampling) for model in config.model_specs}
    assert sampling["devstral-small-2505"] == {"temperature": None} and not sampling["llama-3.1-8b-instruct"]


def test_a_proxy_with_a_password_comes_from_the_environment(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PROXY", "http://me:secret@proxy:1")
    config = composed("providers.openai.proxy=${oc.env:A_PROXY}")
    assert config.providers["openai"].proxy == "http://me:secret@proxy:1"
    assert "secret" not in str(config.identity())
    with pytest.raises(ConfigError, match="providers.local.proxy would see the key of KEY"):
        composed("providers.local.proxy=${oc.env:A_PROXY}", "providers.local.key_env=KEY")


def test_a_model_or_provider_of_ones_own_needs_no_key_that_was_added_later(composed: Compose) -> None:
    old = "{provider:mine,api_model:m,parameters_b:3,assumed:false,context_length:0,json_schema:true,extra:{}"
    server = "{base_url:'http://127.0.0.1:1/v1',key_env:'',output_limit:max_tokens,timeout_secs:5,attempts:1}"
    sets = ("+model_sets.mine=[mine]", "model_set=mine", "stand_ins=false")
    config = composed(f"+models.mine={old},prices:null}}", f"+providers.mine={server}", *sets)
    [model] = config.identity()["models"].values()
    assert "sampling" not in model and "output_limit" not in model, "recordings made before are found"
    assert config.providers["mine"].proxy is None


def test_the_identity_of_a_run_leaves_out_where_and_how_it_is_stored(composed: Compose) -> None:
    identity = composed("model_set=2").identity()
    assert "results" not in identity and "record" not in identity
    assert identity == composed("model_set=2", "record=replay", "results=elsewhere").identity()
    assert identity != composed("model_set=2", "seed=1", "run=x").identity()
    assert list(identity["models"]) == ["gpt-5.2", "gpt-5-mini"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.evolution.population_size=0", "search.evolution.population_size=0 must be at least 1"),
        ("search.evolution.eps_greedy=1.5", "search.evolution.eps_greedy=1.5 must be at most 1"),
        ("search.evolution.genetic_mutate_prob=-1", "search.evolution.genetic_mutate_prob=-1.0 must be at least 0"),
        ("+search.evolution.typo=1", "search.evolution.typo"),
        ("model_set=3", "model_set=3 is unknown"),
    ],
)
def test_bad_settings_of_the_evolutionary_search_are_named(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed("search=evolutionary", override)
    assert message in str(raised.value)


def test_a_search_without_llm_is_one_run_whatever_the_model_set(composed: Compose) -> None:
    config = composed("search=evolutionary", "model_set=2")
    assert config.run == "llama3_8b_attention/cpu-evolutionary-n48-s0"
    assert (config.model_set, config.largest, config.model_specs) == ("none", "none", ())
    other = composed("search=evolutionary", "model_set=8", "largest=llama-3.3-70b-instruct")
    assert other.identity() == config.identity()
    assert "models" in config.identity() and not config.identity()["models"]


def test_a_run_of_the_tree_search_is_named_after_its_models(composed: Compose) -> None:
    assert composed("model_set=2").run == "llama3_8b_attention/cpu-colt_plus-2-gpt-5.2-extended-n48-s0"


def test_no_configuration_file_holds_a_path_or_an_address() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        text = path.read_text()
        addresses = re.findall(r"://[^/\s]+", text)
        assert "/home" not in text and (path.parent.name == "providers" or not addresses), path


SEARCHES = sorted(path.stem for path in (ROOT / "conf" / "search").glob("*.yaml"))


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_loads_and_names_itself_as_its_file(composed: Compose, name: str) -> None:
    config = composed(f"search={name}")
    assert config.search.name == name
    assert f"-{name}-" in config.run


def test_every_search_differs_from_every_other(composed: Compose) -> None:
    made = [composed(f"search={name}") for name in SEARCHES]
    rows = [str((config.model_set, {**vars(config.search), "name": "", "run_name": ""})) for config in made]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_control_changes_what_its_name_says_and_nothing_else(composed: Compose, name: str) -> None:
    controls = {
        "mcts_no_llm": {"proposer", "decisions"},
        "no_course_alteration": {"course_alteration"},
        "random_course_alteration": {"course_alteration", "course_rate"},
        "random_proposer": {"proposer", "decisions"},
        "random_proposer_tvm": {"proposer", "decisions"},
        **{f"router_{rule}": {"router"} for rule in ("cheapest", "round_robin", "ucb", "uniform")},
    }
    of_colt_plus = {"drafts_alone": {"proposer", "decisions"}}
    for base, changes in (("colt", controls), ("colt_plus", of_colt_plus)):
        if name in changes:
            of, own = (vars(composed(f"search={search}").search) for search in (base, name))
            assert {key for key in of if of[key] != own[key]} == {"name", "run_name", *changes[name]}


def test_the_paper_is_to_the_letter(composed: Compose) -> None:
    paper = composed("search=paper").search
    assert (paper.lambda_, paper.c, paper.branching) == (0.5, 2**0.5, 2)
    assert (paper.router, paper.course_alteration, paper.rewards) == ("endogenous", "path", "predicted")
    assert (paper.cost_model, paper.warmup_samples, paper.decisions) == ("xgb", 100, False)
    assert (paper.draws_per_proposal, paper.candidates, paper.widening) == (1, 0, 0)


@pytest.mark.parametrize("key", SEARCH_CHOICES)
def test_a_search_choice_that_does_not_exist_is_named_with_those_that_do(composed: Compose, key: str) -> None:
    with pytest.raises(ConfigError, match=f"search.{key}=magic is unknown; choose one of: {SEARCH_CHOICES[key][0]}"):
        composed(f"search.{key}=magic")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.draws_per_proposal=0", "search.draws_per_proposal=0 must be at least 1"),
        ("search.candidates=-1", "search.candidates=-1 must be at least 0"),
        ("search.widening=-0.5", "search.widening=-0.5 must be at least 0"),
        ("search.course_rate=1.5", "search.course_rate=1.5 must be at most 1"),
        ("search.decisions=perhaps", "key search.decisions"),
    ],
)
def test_bad_search_values_are_named(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed(override)
    assert message in str(raised.value)


def test_where_experience_lies_is_no_part_of_a_runs_identity(composed: Compose) -> None:
    assert composed().identity() == composed("pretraining=elsewhere").identity()


def test_what_a_search_starts_from_is_no_part_of_its_identity(composed: Compose) -> None:
    assert composed().start_from is None
    assert composed().identity() == composed("start_from=elsewhere").identity()


@pytest.mark.parametrize("search", ["evolutionary", "evolutionary_8", "evolutionary_pretrained"])
def test_a_search_without_a_tree_starts_from_nothing(composed: Compose, search: str) -> None:
    with pytest.raises(ConfigError, match=r"^start_from=elsewhere is for searches that grow a tree.*search=colt_plus"):
        composed(f"search={search}", "start_from=elsewhere")
