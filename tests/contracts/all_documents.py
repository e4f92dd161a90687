"""Documents of every family."""

from __future__ import annotations

from mlp_documents import MLPS
from space_documents import CELLS, DOCUMENTS
from transformer_documents import TRANSFORMERS

ANY = DOCUMENTS | CELLS | TRANSFORMERS | MLPS
