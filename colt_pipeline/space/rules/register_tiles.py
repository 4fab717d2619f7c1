"""Register tiles for contractions, with packed operands and cheap padding.

A tile of the output, some rows times some vectors, is summed up in a local buffer that LLVM keeps in registers. Sizes
are in units, a vector in one direction and up to four rows in the other, so that no sample is without vectors and
reuse, and the longest axis is shared among the cores beforehand. The reduction is either not interrupted, or it is the
outermost loop within the tiles of a core (blocked), so that an operand which is read only once is read in long runs.

Packing copies an operand into panels, whose elements a register tile reads one after another: across vectors where the
operand is not contiguous along them, and across rows where its rows are far apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import ScheduleError

from colt_pipeline.space.rules.primitives import copy_operand, in_registers, vectorize_along
from colt_pipeline.space.rules.structure import VECTOR, Block, Loop, Operand, Structure, lanes, structure, unit

_FEWEST_LANES = 4
_MOST_VECTORS = 4
"""Vectors in a row of a register tile."""
_MOST_UNITS = 4
"""Units of rows in a register tile."""
_LONGEST = 64
"""Iterations of a loop between the outermost and the register tile."""
_UNROLLED = 9
"""Steps of the reduction that are unrolled at most: those of a 3x3 window."""
_WIDEST_PADDING = 128
"""Elements that are padded by one vector statement."""


@dataclass(frozen=True)
class _Plan:
    """What all design spaces of a block have in common."""

    structure: Structure
    column: int
    """The axis that vectors lie along."""
    row: int | None
    """The axis whose elements share the vectors that are loaded."""
    cores: int

    @property
    def shared_out(self) -> int | None:
        """The axis that is divided among the cores; None if none can be divided evenly."""
        units = {a: self.units(a) for a in self.structure.spatial}
        return max((a for a, n in units.items() if n % self.cores == 0), key=lambda a: units[a], default=None)

    @property
    def reads_once(self) -> bool:
        """Whether all rows fit into one register tile, so that the operand along the columns is read only once.

        Each core then takes all of its columns in one tile, in which the operand is read in runs as long as possible.
        """
        few = self.row is None or self.structure.extents[self.row] <= _MOST_UNITS * unit(
            self.structure.extents[self.row]
        )
        return few and self.is_long and self.shared_out is not None

    @property
    def is_long(self) -> bool:
        """Whether the reduction goes on after the steps that are unrolled."""
        return prod(self.structure.extents[a] for a in self.structure.reduced) > prod(
            _unrolled(self.structure).values()
        )

    def units(self, axis: int) -> int:
        """How many units a spatial axis has: vectors, groups of rows, or single elements."""
        extent = self.structure.extents[axis]
        return extent // (lanes(extent) if axis == self.column else unit(extent) if axis == self.row else 1)


@dataclass(frozen=True)
class _Variant:
    """What distinguishes the design spaces of one block."""

    blocked: bool
    """Whether the reduction is the outermost loop within the tiles of a core."""
    width: int
    """Columns that make a vector."""
    packed: tuple[tuple[Operand, int], ...] = ()
    """Operands that are copied into panels, and the axis across which the panels lie."""


def has_tiles(sch: Schedule) -> bool:
    """Whether an unscheduled program has contractions, and the rule can tile all of them."""
    found = [structure(sch, block) for block in sch.get_child_blocks(sch.get_sblock("root"))]
    contractions = [s for s in found if s is not None and s.is_contraction]
    return bool(contractions) and all(_column(s) is not None for s in contractions)


@derived_object
class RegisterTiles(ms.schedule_rule.PyScheduleRule):  # type: ignore[misc]  # TVM has no types
    """The rule, in place of TVM's MultiLevelTiling."""

    def __init__(self, switches: Collection[str]) -> None:
        """Make the rule.

        Args:
            switches: those of ``conf/space`` that are on, of which ``packing`` and ``padding`` matter here.
        """
        super().__init__()
        self._switches = frozenset(switches)
        self._cores = 1

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._cores = int(context.target.attrs["num-cores"])

    def apply(self, sch: Schedule, block: Block) -> list[Schedule]:
        """The design spaces of this block; `sch` itself if it is no contraction."""
        s = structure(sch, block)
        if s is None or (column := _column(s)) is None:
            return [sch]
        plan = _Plan(s, column, _row(s, column), self._cores)
        variants = _variants(plan, "packing" in self._switches, _constants(sch))
        return [_design(sch.copy(), block, plan, v, "padding" in self._switches) for v in variants]

    def clone(self) -> RegisterTiles:
        """TVM's way to copy a rule."""
        copy = RegisterTiles(self._switches)
        copy._cores = self._cores
        return copy


@derived_object
class InlineApart(ms.schedule_rule.PyScheduleRule):  # type: ignore[misc]  # TVM has no types
    """TVM's AutoInline, but for what a contraction reads: that would be computed again for every use of an element."""

    def __init__(self) -> None:
        """Make the rule, with TVM's settings for CPUs."""
        super().__init__()
        rules = ms.ScheduleRule.create("llvm")
        self._inline = next(rule for rule in rules if isinstance(rule, ms.schedule_rule.AutoInline))

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._inline._initialize_with_tune_context(context)

    def apply(self, sch: Schedule, block: Block) -> list[Schedule]:
        """The schedule with the block inlined, or as it is."""
        own = structure(sch, block)
        readers = [] if own is None else [structure(sch, reader) for reader in sch.get_consumers(block)]
        if any(s is not None and s.is_contraction for s in readers):
            return [sch]
        return list(self._inline.apply(sch, block))

    def clone(self) -> InlineApart:
        """TVM's way to copy a rule."""
        return InlineApart()


def _column(s: Structure) -> int | None:
    """The axis that vectors lie along, that of the output's last dimension; None if there is none."""
    column = s.output[-1] if s.is_contraction and s.output else None
    return column if column is not None and lanes(s.extents[column]) >= _FEWEST_LANES else None


def _row(s: Structure, column: int) -> int | None:
    """The axis whose elements share the vectors that are loaded, if any: the longest on which no vector depends."""
    axes = [a for a in s.spatial if a != column and not s.shared(a) and s.extents[a] > 1]
    free = [a for a in axes if not any({a, column} <= o.axes for o in s.operands)]
    return max(free or axes, key=lambda a: s.extents[a], default=None)


def _constants(sch: Schedule) -> set[str]:
    """Names of the inputs whose layout TVM's postprocessor RewriteLayout chooses; a copy of these would fail there."""
    main = sch.mod["main"]
    return {str(main.params[int(i)].name) for i in (main.attrs or {}).get("layout_free_buffers", ())}


def _variants(plan: _Plan, packing: bool, constants: Collection[str]) -> Iterator[_Variant]:
    s, column, row = plan.structure, plan.column, plan.row
    packed = []
    gathers = False
    for operand in s.operands:
        if operand.name in constants:
            continue
        if column in operand.axes:
            if operand.dims.count(column) == 1 and operand.dims[-1] != column:
                gathers = True
                packed.append((operand, column))
        elif row is not None and operand.dims.count(row) == 1:
            packed.append((operand, row))
    widest, extent = lanes(s.extents[column]), s.extents[column]
    narrower = [n for n in (8, 4) if extent % n == 0 and widest % VECTOR]
    for width in [widest, *narrower[:1]]:
        for blocked in [False] * (not plan.reads_once) + [True] * plan.is_long:
            if packing and packed:
                yield _Variant(blocked, width, tuple(packed))
            if not (packing and gathers):
                yield _Variant(blocked, width)


@dataclass
class _Loops:
    """The loops of a tiled block, by their place from the outside to the inside."""

    outer: list[Loop] = field(default_factory=list)
    """Across the tiles of a core."""
    blocks: list[Loop] = field(default_factory=list)
    """Across blocks of the reduction."""
    middle: list[Loop] = field(default_factory=list)
    """Across register tiles."""
    steps: list[Loop] = field(default_factory=list)
    """Along the reduction."""
    unrolled: list[Loop] = field(default_factory=list)
    """Along the reduction, within a step."""
    rows: list[Loop] = field(default_factory=list)
    """Rows of a register tile."""
    columns: list[Loop] = field(default_factory=list)
    """Vectors in a row of a register tile, and the lanes of a vector."""


def _design(sch: Schedule, block: Block, plan: _Plan, variant: _Variant, padding: bool) -> Schedule:
    s = plan.structure
    pads = [p for p in sch.get_producers(block) if _is_padding(sch, p)] if padding else []
    copies = []
    for operand, axis in variant.packed:
        at, width = operand.dims.index(axis), variant.width if axis == plan.column else unit(s.extents[axis])
        copies.append((copy_operand(sch, [block], operand, at, width), at, width))
    out = _output(sch, block, s)
    tiled = _tiled(sch, block, plan, variant, whole_columns=bool(pads))
    *columns, lane = tiled.columns
    in_tile = [*tiled.steps, *tiled.unrolled, *tiled.rows, *columns, lane]
    sch.reorder(*tiled.outer, *tiled.blocks, *tiled.middle, *in_tile)
    # Loops of one iteration stay: a replay with other decisions must find as many loops.
    sch.reverse_compute_at(out, (tiled.outer if variant.blocked else tiled.middle)[-1], preserve_unit_loops=True)
    in_registers(sch, [*tiled.unrolled, *tiled.rows, *columns], lane)
    vectors = vectorize_along(sch, out, len(s.output) - 1, variant.width)
    if not variant.blocked:
        sch.unroll(vectors)  # those of a register tile
    for copy, at, width in copies:
        sch.compute_at(copy, [*tiled.outer, *tiled.blocks][-1], preserve_unit_loops=True)
        vectorize_along(sch, copy, at, width)
    for pad in pads:
        sch.compute_at(pad, tiled.outer[-1], preserve_unit_loops=True)
        _decompose(sch, pad)
    return sch


def _output(sch: Schedule, block: Block, s: Structure) -> Block:
    """What takes the sums out of the registers: the block's only consumer, or a copy."""
    consumers = sch.get_consumers(block)
    after = structure(sch, consumers[0]) if len(consumers) == 1 else None
    if after is not None and not after.reduced and after.output == tuple(range(len(after.extents))) == s.output:
        reads = [o.dims for o in after.operands if o.name == s.buffer]
        if reads == [after.output] and len(sch.get_producers(consumers[0])) == 1:
            sch.set_scope(block, 0, "local")
            return consumers[0]
    return sch.cache_write(block, 0, "local")


def _tiled(sch: Schedule, block: Block, plan: _Plan, variant: _Variant, whole_columns: bool) -> _Loops:
    """Split the loops of a block; with `whole_columns` a core's tile has all columns: padding needs no condition."""
    s, tiled, sizes = plan.structure, _Loops(), _unrolled(plan.structure)
    for axis, loop in enumerate(sch.get_loops(block)):
        if axis in sizes:
            steps, step = sch.split(loop, [None, sizes[axis]])
            if variant.blocked and s.extents[axis] > sizes[axis]:
                blocks, steps = sch.split(steps, sch.sample_perfect_tile(steps, 2, _LONGEST))
                tiled.blocks.append(blocks)
            tiled.steps.append(steps)
            tiled.unrolled.append(step)
            continue
        if axis == plan.column:
            loop, lane = sch.split(loop, [None, variant.width])
        elif axis == plan.row:
            loop, part = sch.split(loop, [None, unit(s.extents[axis])])
        if axis == plan.shared_out and not (whole_columns and axis == plan.column):
            share, loop = sch.split(loop, [plan.cores, None])
            tiled.outer.insert(0, share)
        parts = 2 if plan.reads_once or (whole_columns and axis == plan.column) else 3
        if axis == plan.column:
            *outer, middle, vector = sch.split(loop, sch.sample_perfect_tile(loop, parts, _MOST_VECTORS))
            tiled.outer += outer
            tiled.middle.append(middle)
            tiled.columns = [vector, lane]
        elif axis == plan.row:
            *outer, middle, some = sch.split(loop, sch.sample_perfect_tile(loop, parts, _MOST_UNITS))
            tiled.outer += outer
            tiled.middle.append(middle)
            tiled.rows = [some, part]
        elif s.extents[axis] == 1:
            tiled.outer.append(loop)
        else:
            outer, middle = sch.split(loop, sch.sample_perfect_tile(loop, 2, _LONGEST))
            tiled.outer.append(outer)
            tiled.middle.append(middle)
    return tiled


def _unrolled(s: Structure) -> dict[int, int]:
    """How many steps along each axis of the reduction are unrolled."""
    sizes: dict[int, int] = {}
    for axis in sorted(s.reduced, reverse=True):
        size = unit(s.extents[axis])
        sizes[axis] = size if size * prod(sizes.values()) <= _UNROLLED else 1
    return sizes


def _is_padding(sch: Schedule, block: Block) -> bool:
    """Whether TVM can split the block into one that fills and one that copies."""
    trial = sch.copy()
    loops = trial.get_loops(block)
    if not loops:
        return False
    try:
        trial.decompose_padding(block, loops[0])
    except ScheduleError:
        return False
    return True


def _decompose(sch: Schedule, pad: Block) -> None:
    """Fill and copy, a row at a time."""
    fill = sch.decompose_padding(pad, sch.get_loops(pad)[-2])
    for block in (fill, pad):
        row = sch.get_loops(block)[-1]
        if int(sch.get(row).extent) <= _WIDEST_PADDING:
            sch.vectorize(row)
