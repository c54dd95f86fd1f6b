"""The data room: from what the user has to typed batches. It knows the batch types and nobody above them."""

from ganforge.data.arrays import from_arrays
from ganforge.data.describe import contact_sheet_images, describe
from ganforge.data.opening import BUNDLED, open_source
from ganforge.data.reading import Reading
from ganforge.data.source import Endless, Finite, Source
from ganforge.data.stream import Stream

__all__ = ["BUNDLED", "Endless", "Finite", "Reading", "Source", "Stream", "contact_sheet_images", "describe", "from_arrays", "open_source"]
