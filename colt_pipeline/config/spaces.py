"""Design spaces in words, as recorded, and the same for all searches of a comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from colt_pipeline.config.schema import EXTENDED_SPACE, TVM_SPACE, Config, SpaceConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.serialization import typed

TVM, EXTENDED = TVM_SPACE.name, EXTENDED_SPACE.name
_TITLES = {TVM: "TVM's space", EXTENDED: "extended space"}


def space_name(additions: Collection[str]) -> str:
    """What these additions make of TVM's space: ``tvm``, ``extended``, or one of them ``with`` or ``without`` some."""
    usual = EXTENDED_SPACE.additions
    missing = [name for name in usual if name not in additions]
    more = [name for name in additions if name not in usual]
    if len(additions) < len(missing) + len(more):
        return TVM + _listed("with", list(additions))
    return EXTENDED + _listed("without", missing) + _listed("with", more)


def space_title(name: str) -> str:
    """What `space_name` gives, for readers: "TVM's space", "extended space without row fusion"."""
    base, _, rest = name.partition(" ")
    return " ".join(filter(None, (_TITLES.get(base, base), rest.replace("_", " "))))


def summarized(space: SpaceConfig) -> dict[str, list[str]]:
    """The field of a summary that says which space was searched; none for TVM's."""
    return {"space": list(space.additions)} if space.additions else {}


def recorded_space(config: Mapping[str, Any]) -> SpaceConfig:
    """The space of a recorded configuration, which is TVM's if it has none.

    Raises:
        ValueError: a switch is missing, unknown or neither on nor off.
    """
    space = config.get("space", vars(TVM_SPACE))
    if not isinstance(space, Mapping):
        raise ValueError(f"space: {type(space).__name__} instead of a mapping")
    known = [field.name for field in fields(SpaceConfig)]
    if unknown := sorted(map(str, space.keys() - set(known))):
        raise ValueError(f"space: {', '.join(unknown)} is none of this version's: {', '.join(known)}")
    return typed(SpaceConfig, dict(space))


def check_one_space(configs: Sequence[Config]) -> None:
    """Check that runs of different searches compare searches, and not the design spaces that they come with.

    Raises:
        ConfigError: one search has a space that another lacks.
    """
    spaces: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for config in configs:
        spaces[config.search.name].add(config.space.additions)
    if len({frozenset(own) for own in spaces.values()}) > 1:
        raise ConfigError(
            "searches are compared in one design space, but these come with different ones: "
            f"{'; '.join(f'{search}: {_names(own)}' for search, own in spaces.items())}. Say which all of them search: "
            f"space={TVM} or space={EXTENDED}"
        )


def _names(spaces: Collection[tuple[str, ...]]) -> str:
    return " and ".join(sorted(map(space_name, spaces)))


def _listed(word: str, names: Sequence[str]) -> str:
    return f" {word} {', '.join(names)}" if names else ""
