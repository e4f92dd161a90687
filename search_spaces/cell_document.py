"""The documents of the `cell` family: cells with an operation on each edge, and NASNet's cells of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from search_spaces.declared import ImageSection
from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, one_of, real, varied
from search_spaces.faults import Fault, SpecError, show
from search_spaces.operations import AuxiliaryHead

EDGE_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
BLOCK_OPERATIONS = (
    *("identity", "conv1x3", "conv1x7", "dil3", "avg3", "max3", "max5"),
    *("max7", "conv1", "conv3", "sep3", "sep5", "sep7"),
)
"""Those of NASNet: convK is K x K, conv1xK also K x 1 after it, dil3 dilated by 2, sepK separable and twice."""
COMBINES = ("add", "concat")
MAX_BLOCKS = 16


class EdgeCellsSection(Section):
    """One cell with an operation on every edge, and how often it stands in the network."""

    cell: Literal["edges", "blocks"] = Field(default="edges", json_schema_extra={"enum": ["edges"]})
    """An operation on every edge."""
    nodes: Annotated[int, Field(ge=2, le=8)] = 4
    """Nodes of the cell, its input and output among them."""
    operations: choice(*EDGE_OPERATIONS)  # type: ignore[valid-type]
    """What may stand on an edge."""
    width: varied(integer(1, 1024)) = Domain((16,))  # type: ignore[valid-type]
    """Channels of the first stage; doubled by every reduction."""
    cells: varied(integer(1, 16)) = Field(  # type: ignore[valid-type]
        default=Domain((5,)), description="cells a stage"
    )
    stages: Annotated[int, Field(ge=1, le=8)] = 3
    """Runs of cells, with a reduction between them."""


class BlockSection(Section):
    """Two operations on two states, combined. State 0 is the cell's newer input, 1 the older, 2 block 0."""

    inputs: tuple[varied(integer(0)), varied(integer(0))]  # type: ignore[valid-type]
    """The states that the two operations read."""
    operations: tuple[choice(*BLOCK_OPERATIONS), choice(*BLOCK_OPERATIONS)]  # type: ignore[valid-type]
    """What is applied to each of them."""
    combine: choice(*COMBINES) = Domain(("add",))  # type: ignore[valid-type]
    """How the two results become one."""

    @field_validator("inputs", "operations", mode="before")
    @classmethod
    def _two(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{show(value)} is not allowed; allowed: a list of two, each a value or several")
        return value


def _written_as(blocks: object) -> str:
    return "count" if isinstance(blocks, int) else "list"


class CellSection(Section):
    """The blocks of one cell: their number where all is open, or each of them."""

    blocks: Annotated[
        Annotated[int, Field(ge=1, le=MAX_BLOCKS), Tag("count")]
        | Annotated[tuple[BlockSection, ...], Field(min_length=1, max_length=MAX_BLOCKS), Tag("list")],
        Discriminator(_written_as),
    ] = 5
    """Their number, where all of them are open, or a list of blocks."""
    operations: choice(*BLOCK_OPERATIONS) = Domain(BLOCK_OPERATIONS)  # type: ignore[valid-type]
    """What open blocks choose from."""
    combine: choice(*COMBINES) = Domain(COMBINES)  # type: ignore[valid-type]
    """How open blocks combine their two results."""
    output: Annotated[
        Annotated[Literal["unused", "blocks"], Tag("word")]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "word"),
    ] = Field(
        default="unused",
        description="states side by side at the end: those that no block reads, all blocks, or a list",
    )

    @field_validator("blocks")
    @classmethod
    def _acyclic(cls, value: int | tuple[BlockSection, ...]) -> int | tuple[BlockSection, ...]:
        late = [
            Fault(f"{i}.inputs.{k}", f"{v} is not allowed; allowed: states before block {i}, 0 to {i + 1}")
            for i, block in enumerate(() if isinstance(value, int) else value)
            for k, domain in enumerate(block.inputs)
            for v in domain.values
            if int(v) > i + 1
        ]
        if late:
            raise SpecError(late)
        return value

    @field_validator("output")
    @classmethod
    def _states(cls, value: str | tuple[int, ...], info: ValidationInfo) -> str | tuple[int, ...]:
        if "blocks" not in info.data:
            return value  # they are at fault, so nobody knows how many states there are
        blocks = info.data["blocks"]
        last = (blocks if isinstance(blocks, int) else len(blocks)) + 1
        wrong = [] if isinstance(value, str) else [v for v in value if v > last or value.count(v) > 1]
        if wrong:
            raise ValueError(f"{list(value)} is not allowed; allowed: different states from 0 to {last}")
        return value

    @property
    def open_or_given(self) -> tuple[BlockSection, ...]:
        """Every block, with its choices."""
        if not isinstance(self.blocks, int):
            return self.blocks
        return tuple(
            BlockSection(
                inputs=(Domain(tuple(range(i + 2))),) * 2, operations=(self.operations,) * 2, combine=self.combine
            )
            for i in range(self.blocks)
        )


class BlockCellsSection(Section):
    """NASNet's two cells (Zoph et al. 2018), and the network that they are stacked to."""

    cell: Literal["edges", "blocks"] = Field(json_schema_extra={"enum": ["blocks"]})
    """NASNet cells: blocks of two operations."""
    skeleton: Literal["cifar", "imagenet"] = Field(
        default="cifar", description="imagenet: a stem of stride 2 and two reduction cells before the stages"
    )
    width: varied(integer(2, 4096))  # type: ignore[valid-type]
    """Channels of the first stage; doubled by every reduction."""
    cells: varied(integer(1, 32)) = Field(description="normal cells a stage")  # type: ignore[valid-type]
    stem_multiplier: Annotated[int, Field(ge=1, le=16)] = Field(
        default=3, description="width of the stem: so many times the cells' width (cifar) or 32 (imagenet)"
    )
    skip_reduction_layer_input: bool = Field(
        default=False,
        description="whether a cell after a reduction has the reduction's older input as its older one",
    )
    auxiliary_head: bool = False
    """A second classifier for the training, before the second reduction."""
    drop_path: varied(real(0, 1, below=True)) = Field(  # type: ignore[valid-type]
        default=Domain((0.0,)), description="rate of ScheduledDropPath in the last cell at the end of the training"
    )
    normal: CellSection = CellSection()
    """The cell that keeps the size of the map."""
    reduction: CellSection | None = Field(
        default=None, description="as the normal cell where it is left out, with choices of its own"
    )

    @model_validator(mode="after")
    def _wide(self) -> BlockCellsSection:
        narrowest = min(int(w) for w in self.width.values)
        if self.skeleton == "imagenet" and narrowest < 8:
            raise SpecError.at(
                "width", f"{narrowest} is not allowed; allowed: integers >= 8, as stem cells have a quarter"
            )
        return self


def _kind_of_cell(architecture: Any) -> str:
    cell = architecture.get("cell") if isinstance(architecture, Mapping) else getattr(architecture, "cell", None)
    return "BlockCellsSection" if cell == "blocks" else "EdgeCellsSection"


class CellDocument(ImageSection):
    """A space of cells; ``architecture.cell`` tells which kind."""

    family: Literal["cell"]
    """Cells that are repeated along a fixed skeleton."""
    architecture: Annotated[
        Annotated[EdgeCellsSection, Tag("EdgeCellsSection")]
        | Annotated[BlockCellsSection, Tag("BlockCellsSection")],
        Discriminator(_kind_of_cell),
    ]
    """What the networks are."""

    @field_validator("architecture", mode="before")
    @classmethod
    def _known_cell(cls, value: Any) -> Any:
        """Without a known kind of cell nothing can be said about the rest."""
        if isinstance(value, Mapping) and "cell" in value:
            try:
                one_of("edges", "blocks").read(value["cell"])
            except ValueError as error:
                raise SpecError.at("cell", str(error)) from None
        return value

    @model_validator(mode="after")
    def _large_enough(self) -> CellDocument:
        section = self.architecture
        if isinstance(section, BlockCellsSection):
            fault = _too_small(section, min(self.input[1:]))
            if fault:
                raise SpecError([fault])
        return self


def _too_small(section: BlockCellsSection, size: int) -> Fault | None:
    """What a map of this size cannot go through."""
    if section.skeleton == "imagenet" and size < 3:
        return Fault(
            "input", f"a side of {size} is too small for the stem of skeleton imagenet; allowed: at least 3"
        )
    size = -(-((size - 1) // 2) // 4) if section.skeleton == "imagenet" else size
    size = -(-size // 2)
    window = AuxiliaryHead.window
    if section.auxiliary_head and size < window:
        message = f"needs a map of {window} x {window} before the second reduction; there it has a side of {size}"
        return Fault("architecture.auxiliary_head", message)
    return None
