"""Applies the rewrites of `ops.rewrites`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import permutations

from ..graph import Node, Op, order
from ..graph.node import same_type, twin
from ..ops.records import TABLE
from ..ops.rewrites import REWRITES, SIGNS, Rewrite, Rule, filling
from .rewriting import readers_of, substitute

Found = dict[str, Node]  # what each name of a pattern stands for


def simplify(outputs: Sequence[Node]) -> list[Node]:
    """Apply all rewrites, stage by stage."""
    nodes = order(outputs)
    for stage in REWRITES:
        readers = _Readers(nodes, outputs)
        instead = {n: new for n in nodes if (new := _rewritten(n, stage, readers)) is not None}
        if instead:
            outputs = substitute(outputs, instead)
            nodes = order(outputs)
    return list(outputs)


class _Readers:
    """How often each node is read, by operations or as an output; counted on first use."""

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.nodes, self.outputs = nodes, set(outputs)

    @cached_property
    def counts(self) -> dict[Node, int]:
        found = readers_of(self.nodes)
        return {n: len(readers) + (n in self.outputs) for n, readers in found.items()}


def _rewritten(node: Node, stage: Sequence[Rewrite | Rule], readers: _Readers) -> Node | None:
    """The replacement of a node by the first rewrite that matches."""
    for rule in stage:
        if isinstance(rule, Rewrite):
            new = _applied(rule, node, readers) if node.op is _root(rule) else None
        else:
            new = rule(node)
        if new is not None:
            return new
    return None


def _applied(rewrite: Rewrite, node: Node, readers: _Readers) -> Node | None:
    """The replacement of a node by a rewrite; None if its pattern does not match."""
    pattern, replacement = rewrite.parsed
    for found in _matches(pattern, node, {}):
        once = all(readers.counts[found[n]] == 1 for n in rewrite.once)
        if once and same_type(node, *(found[n] for n in rewrite.alike)):
            new = _built(replacement, node, found)
            if same_type(node, new):
                return new
    return None


@lru_cache(maxsize=1024)  # more than there are rewrites
def _root(rewrite: Rewrite) -> Op:
    return _operation(rewrite.parsed[0])[0]


def _operation(part: ast.expr) -> tuple[Op, list[ast.expr], bool]:
    """The record, the operands, and whether their order matters."""
    if isinstance(part, ast.BinOp):
        either = isinstance(part.op, (ast.Add, ast.Mult))
        return TABLE[SIGNS[type(part.op)]], [part.left, part.right], either
    if isinstance(part, ast.UnaryOp):
        return TABLE[SIGNS[type(part.op)]], [part.operand], False
    assert isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
    return TABLE[part.func.id], part.args, False


def _matches(part: ast.expr, node: Node, found: Found) -> list[Found]:
    """All ways in which a node matches a part of a pattern; `found` are the names bound so far."""
    if isinstance(part, ast.Constant):
        return [found] if filling(node) == part.value else []
    if isinstance(part, ast.Name):
        return [found | {part.id: node}] if found.get(part.id, node) is node else []
    if isinstance(part, ast.NamedExpr):
        named = _matches(part.target, node, found)
        return [match for names in named for match in _matches(part.value, node, names)]
    op, parts, either = _operation(part)
    if node.op is not op:
        return []
    if isinstance(parts[-1], ast.Starred):
        parts = parts[:-1]
    elif len(parts) != len(node.inputs):
        return []
    matches = []
    for operands in permutations(node.inputs) if either else [node.inputs]:
        ways = [found]
        for inner, operand in zip(parts, operands, strict=False):
            ways = [match for names in ways for match in _matches(inner, operand, names)]
        matches += ways
    return matches


def _built(part: ast.expr, node: Node, found: Found) -> Node:
    """Build a replacement; all its operations get the type of `node`."""
    if isinstance(part, ast.Name):
        return found[part.id]
    op, parts, _ = _operation(part)
    return twin(node, op, [_built(p, node, found) for p in parts], {})
