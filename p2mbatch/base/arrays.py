"""The array types that the whole package names, each said once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

BoolArray = npt.NDArray[np.bool_]

Int8Array = npt.NDArray[np.int8]

Int16Array = npt.NDArray[np.int16]

Int32Array = npt.NDArray[np.int32]

UInt8Array = npt.NDArray[np.uint8]

UInt32Array = npt.NDArray[np.uint32]

UInt64Array = npt.NDArray[np.uint64]

Float64Array = npt.NDArray[np.float64]
