"""What an architecture is: the declarative language, genes, operators, encodings, exact costs and builders."""

from search_spaces.architecture import Architecture, Choice, Condition
from search_spaces.faults import Fault, SpecError
from search_spaces.load import load_reference, load_space, presets, references
from search_spaces.recipe import Recipe
from search_spaces.space import BuildError, Space

__all__ = [
    "Architecture",
    "BuildError",
    "Choice",
    "Condition",
    "Fault",
    "Recipe",
    "Space",
    "SpecError",
    "load_reference",
    "load_space",
    "presets",
    "references",
]
