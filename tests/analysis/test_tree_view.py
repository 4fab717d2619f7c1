"""The tree as files: the page is complete, safe and independent of the network."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.analysis.tree.page import layout, tree_html, tree_json, write_tree
from colt_pipeline.analysis.tree.run import TreeNode, read_run
from colt_pipeline.errors import RunDirError
from tests.toy_run import STARTED, events_by_hand, events_of_search, write_run

HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"' onload='alert(1)", "{{ 7 * 7 }}")


class Page(HTMLParser):
    """Tags with their attributes, and the text of the elements of data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = "data" if dict(attrs).get("id") == "facts" else tag

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside not in ("script", "style"):
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def page(tmp_path: Path, *transformations: str) -> tuple[str, Page]:
    text = tree_html(read_run(write_run(tmp_path / "run", events_by_hand(*transformations))))
    return text, Page(text)


def test_the_page_shows_every_node_and_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    _, parsed = page(tmp_path, "TileSize")
    nodes = {a["data-id"]: a for tag, a in parsed.tags if tag == "g" and "data-id" in a}
    assert sorted(nodes, key=lambda id: int(id or "")) == ["-1", "0", "1", "2", "3", "4"]
    assert [id for id, a in nodes.items() if "best" in (a["class"] or "").split()] == ["0", "1", "3", "4"]
    assert "altered" in (nodes["4"]["class"] or "") and "pruned" in (nodes["-1"]["class"] or "")
    assert nodes["2"]["aria-label"] == "node 2, depth 1, timeout"
    assert [id for id, a in nodes.items() if a["tabindex"] == "0"] == ["4"]
    facts = json.loads(parsed.data)
    assert ["made by", "large (stand-in), course alteration in place of node -1"] in facts["4"]["facts"]
    assert ["measured", "800.000 ms → 250.000 ms, 3.20x"] in facts["4"]["facts"]
    shown = " ".join(parsed.text)
    assert "stand-in LLMs, measured latency" in shown
    assert "large (stand-in)" in shown and not re.search(r"large(?! \(stand-in\)|r)", shown.replace("largest", ""))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    _, plain = page(tmp_path / "plain", "TileSize")
    text, parsed = page(tmp_path / "hostile", *HOSTILE)
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in plain.tags]
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert ["proposed", ", ".join(HOSTILE)] in json.loads(parsed.data)["4"]["facts"]
    assert ", ".join(HOSTILE) in "".join(parsed.text)
    assert "innerHTML" not in text


def test_the_page_refers_to_nothing_outside(tmp_path: Path) -> None:
    text, parsed = page(tmp_path, "TileSize")
    references = [a[name] for _, a in parsed.tags for name in ("src", "href", "action", "data", "srcset") if name in a]
    assert references == ["data:,"]
    assert re.findall(r"\w+://[^\s\"']*", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert "url(" not in text and "@import" not in text and "fetch" not in text
    (policy,) = (a["content"] or "" for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_estimates_are_marked(tmp_path: Path) -> None:
    started = dataclasses.replace(STARTED, measurement="estimated")
    text = tree_html(read_run(write_run(tmp_path / "run", [started, *events_by_hand()[1:]])))
    assert "estimated latency" in text
    assert "800.000 ms (estimated) \\u2192 250.000 ms (estimated), 3.20x (estimated)" in text
    assert not re.search(r"\d ms(?! \(estimated\))", text)


def test_files_are_the_same_bytes_each_time_and_hold_every_node(tmp_path: Path) -> None:
    events = events_of_search(60, tmp_path / "toy.jsonl")
    run = read_run(write_run(tmp_path / "run", events))
    first = [path.read_bytes() for path in write_tree(run, tmp_path / "a" / "new")]
    assert first == [path.read_bytes() for path in write_tree(read_run(tmp_path / "run"), tmp_path / "b")]
    tree = json.loads(first[0])
    assert len(tree["nodes"]) > 61  # with the pruned ones
    assert [n["id"] for n in sorted(tree["nodes"], key=lambda n: n["depth"]) if n["best_path"]] == tree["best_path"]
    assert {m["label"] for m in tree["models"]} == {"large (stand-in)", "small (stand-in)"}
    node = next(n for n in tree["nodes"] if n["course_alteration"])
    assert node["made_by"] == "large" and node["transformations"] == ["Step"] and node["replaces"] < 0


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", [STARTED]))
    assert tree_json(run)["best_path"] == []
    assert "There is no way to the best program" in tree_html(run)


def test_an_unwritable_place_is_one_message(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", [STARTED]))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="choose another with --out"):
        write_tree(run, tmp_path / "file" / "below")


def _node(id: int, parent: int | None, depth: int) -> TreeNode:
    return TreeNode(id, parent, depth, None, None, visits=0, value=0.0, pruned=False, replaces=None)


@given(st.lists(st.integers(min_value=0), max_size=60))
def test_nodes_of_a_level_keep_their_distance_and_parents_stand_amid_their_children(draws: list[int]) -> None:
    nodes = [_node(0, None, 0)]
    for draw in draws:
        parent = nodes[draw % len(nodes)]
        nodes.append(_node(len(nodes), parent.id, parent.depth + 1))
    places = layout(nodes)
    for node in nodes:
        assert places[node.id][0] == node.depth
        rows = [places[child.id][1] for child in nodes if child.parent == node.id]
        assert not rows or min(rows) <= places[node.id][1] <= max(rows)
    for level in {node.depth for node in nodes}:
        rows = sorted(row for depth, row in places.values() if depth == level)
        assert all(below - above >= 1 for above, below in zip(rows, rows[1:], strict=False))


def test_a_chain_of_a_thousand_nodes_is_laid_out() -> None:
    nodes = [_node(n, n - 1 if n else None, n) for n in range(1000)]
    assert layout(nodes)[999] == (999, 0)
