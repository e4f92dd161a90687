"""A cell as a graph, for drawings: nodes that combine what operations make of earlier nodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Port:
    """One operation that a node applies, and the node that it reads."""

    source: str
    label: str = ""
    """The operation; empty where the source is taken as it is."""


@dataclass(frozen=True)
class Node:
    """An input of the cell (without ports), or the combination of some operations."""

    name: str
    label: str
    """What is written above the operations: the node's name, and how it combines them."""
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The nodes of a cell; each stands after those that it reads."""

    title: str
    nodes: tuple[Node, ...]
