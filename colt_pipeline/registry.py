"""Proposers, routers, cost models and transformations of one's own, without a fork: a name and a factory each.

    from colt_pipeline import registry

    def first(models, state, advised, rng):  # each of the models has a name and parameters_b
        return models[0].name

    registry.router("first", first)

Afterwards ``search.router=first`` is a valid choice. In a script, register before `tune_module` is called. For
commands, save it as a module and name it: ``python -m colt_pipeline.tune plugins=[my_module] search.router=first``;
every process that works on the run imports it. Python must find it: it lies in the working directory, is installed, or
is on ``PYTHONPATH``. The names are part of a run's configuration but not of its name: with other plugins, or without,
say ``run=NAME``.

A replay calls these functions again and compares what follows, so they must depend on their arguments alone; for chance
they get a generator or a seed. A module that is executed again, such as a cell of a notebook, replaces its own rows.

Importing TVM takes seconds, so a module of plugins should import it within its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, TypeVar

from colt_pipeline.config.checks import SEARCH_CHOICES
from colt_pipeline.config.schema import ANSWERS_IN_PLACE
from colt_pipeline.errors import ConfigError
from colt_pipeline.search.routing import ROUTERS, Router
from colt_pipeline.search.world import CostModelLike, ProposerLike

if TYPE_CHECKING:  # these import TVM, which takes seconds
    from colt_pipeline.config.schema import Config
    from colt_pipeline.llm.cassette import Cassette
    from colt_pipeline.runs.stopwatch import Stopwatch
    from colt_pipeline.space import Program, Space
    from colt_pipeline.space.transformations import Mutator

T = TypeVar("T")

PROPOSERS: dict[str, Callable[[Config, Cassette], ProposerLike]] = {}
"""``search.proposer`` -> factory, of users."""
COST_MODELS: dict[str, Callable[[Config, Space, Stopwatch], CostModelLike[Program]]] = {}
"""``search.cost_model`` -> factory, of users."""
_MODULES: dict[tuple[str, str], str] = {}
"""Kind and name of what a user added -> the module that it comes from."""


def router(name: str, rule: Router) -> None:
    """Add a rule for which model answers next.

    Args:
        name: ``search.router=`` it.
        rule: (model set, state of the search, name of the model that the acting one advises or None, generator) ->
            name of the model that will expand the new node.

    Raises:
        ConfigError: the name is taken.
    """
    _add("router", name, rule, ROUTERS)


def proposer(name: str, factory: Callable[[Config, Cassette], ProposerLike], asks_models: bool = True) -> None:
    """Add a source of proposals.

    Args:
        name: ``search.proposer=`` it.
        factory: (configuration, recorded answers) -> an object whose method
            ``ask(model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer`` gives the
            transformations for one expansion; `llm.proposer.Proposer` and `llm.random_proposer.RandomProposer` are two.
        asks_models: whether the run's models answer, through the recorded answers. If not, all results name `name` as
            what answered.

    Raises:
        ConfigError: the name is taken.
    """
    _add("proposer", name, factory, PROPOSERS)
    if asks_models:
        ANSWERS_IN_PLACE.pop(name, None)
    else:
        ANSWERS_IN_PLACE[name] = name


def cost_model(name: str, factory: Callable[[Config, Space, Stopwatch], CostModelLike[Program]]) -> None:
    """Add a model that predicts how fast programs are.

    Args:
        name: ``search.cost_model=`` it.
        factory: (configuration, space of programs, stopwatch) -> an object with the property ``warm`` (whether scores
            mean anything yet) and the methods ``score(programs, rng) -> list[float]``, higher is faster, and
            ``update(programs, samples)``, which learns from measurements; `prediction.cost_model.CostModel` is one.

    Raises:
        ConfigError: the name is taken.
    """
    _add("cost_model", name, factory, COST_MODELS)


def transformation(name: str, mutator: Mutator, description: str) -> None:
    """Add a kind of schedule edit, which prompts offer like all others, wherever it finds something to change.

    Args:
        name: what models call it; a word such as ``TileSize``.
        mutator: (trace, seed) -> another trace, a ``tvm.s_tir.schedule.Trace``; or None if it finds nothing to change.
            It may change the decisions of a trace, but not its instructions: only what schedule rules make can be
            loaded again from a journal, see ``colt_pipeline/traces.py``.
        description: what prompts say about it.

    Raises:
        ConfigError: the name is taken.
    """
    from colt_pipeline.space.transformations import TRANSFORMATIONS, Transformation  # imports TVM

    _claim("transformation", name, mutator, [known.name for known in TRANSFORMATIONS])
    others = [known for known in TRANSFORMATIONS if known.name != name]
    TRANSFORMATIONS[:] = [*others, Transformation(name, mutator, description)]


def _add(kind: str, name: str, factory: T, table: MutableMapping[str, T]) -> None:
    _claim(kind, name, factory, SEARCH_CHOICES[kind])
    table[name] = factory
    SEARCH_CHOICES[kind] = tuple(dict.fromkeys([*SEARCH_CHOICES[kind], name]))


def _claim(kind: str, name: str, factory: object, taken: Collection[str]) -> None:
    """Reserve a name for the module of `factory`."""
    module = str(getattr(factory, "__module__", None))
    if name in taken and _MODULES.get((kind, name)) != module:
        by = _MODULES.get((kind, name))
        raise ConfigError(f"the {kind} {name} exists already{f', from {by}' if by else ''}; choose another name")
    _MODULES[kind, name] = module
