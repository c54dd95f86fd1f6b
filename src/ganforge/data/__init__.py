"""The data room: from what the user has to typed batches. It knows the batch types and nobody above them."""

from ganforge.data.arrays import from_arrays, from_fields
from ganforge.data.describe import contact_sheet, describe
from ganforge.data.opening import BUNDLED, open_source, served_kinds
from ganforge.data.reading import Reading, Split
from ganforge.data.source import Endless, Finite, Source
from ganforge.data.stream import Stream

__all__ = [
    "BUNDLED",
    "Endless",
    "Finite",
    "Reading",
    "Source",
    "Split",
    "Stream",
    "contact_sheet",
    "describe",
    "from_arrays",
    "from_fields",
    "open_source",
    "served_kinds",
]
