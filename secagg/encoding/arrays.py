"""One leaf of an update, whatever library made it, as a NumPy array of real numbers.

NumPy arrays and Python numbers are taken as they are.  Anything else comes through a protocol, so that no framework is
ever imported: DLPack first (no copy), then ``__array__``, then DLPack read by hand for bfloat16, which NumPy refuses.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.encoding.bfloat16 import widened
from secagg.errors import InputError

RealArray = npt.NDArray[Any]
"""bool, integer or float of any width and byte order, or a float extension type such as ``ml_dtypes.bfloat16``."""

# What a foreign protocol method may raise when it declines; anything else is a bug that should be seen.
_DECLINED: Final = (TypeError, ValueError, RuntimeError, BufferError, AttributeError)

_DLPACK_HOST_DEVICES: Final = (1, 3)  # kDLCPU, and kDLCUDAHost: pinned memory, which the CPU addresses as well
_DLPACK_BFLOAT: Final = 4


def to_array(value: object, name: str) -> RealArray:
    """``value`` as an array of real numbers, of its own shape; no copy where none is needed.

    Takes NumPy arrays and scalars, Python bool, int and float, and whatever offers ``__dlpack__`` or ``__array__``
    (PyTorch, JAX, TensorFlow, pandas, ...).  A tensor that records gradients is detached first.  bfloat16 and 8-bit
    floats of a library that hands NumPy none (PyTorch) come back as float32, which holds them exactly.

    Raises InputError, with ``name`` in its message, for objects, strings, complex numbers, dates, records, masked
    arrays, sparse arrays, and tensors that are not in the memory of the CPU.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array, whose mask a sum cannot keep: fill it (array.filled(0)) first")
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(value)
    elif is_foreign(value):
        array = _from_foreign(value, name)
    elif (dense := _method_for_dense(value)) is not None:
        raise _sparse(value, name, dense)
    else:
        raise InputError(
            f"{name} is a {type_name(value)}: allowed are arrays (NumPy, or anything with __dlpack__ or __array__), "
            "real numbers, and dicts, lists, tuples and None that nest them; convert it first"
        )
    if not _is_real(array.dtype):
        raise InputError(
            f"{name} holds {array.dtype} elements: allowed are bool, integers and floats; "
            "leave it out of the update or convert it first"
        )
    return array


def is_foreign(value: object) -> bool:
    """Whether ``value`` offers an array protocol."""
    return hasattr(value, "__dlpack__") or hasattr(value, "__array__")


def type_name(value: object) -> str:
    """The qualified name of the value's type, for messages."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_real(dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "biuf":
        return True
    # Most extension types (ml_dtypes) show as kind V, as records do; floats narrower than float64 are taken.
    narrower = np.can_cast(dtype, np.float64) and np.can_cast(np.float64, dtype, "same_kind")
    return dtype.kind == "V" and narrower and not np.can_cast(dtype, np.int64)


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether this is a float type that is not NumPy's own, such as ``ml_dtypes.bfloat16``."""
    return dtype.kind == "V" or (dtype.kind == "f" and not issubclass(dtype.type, np.floating))


def _from_foreign(value: Any, name: str) -> RealArray:
    failure: BaseException | None = None
    if getattr(value, "requires_grad", False) is True and hasattr(value, "detach"):
        value = value.detach()
    if _is_sparse_tensor(value):
        raise _sparse(value, name, "to_dense")
    for protocol in (_through_dlpack, _through_array, _through_dlpack_bfloat16, _through_float32):
        try:
            array = protocol(value)
        except _DECLINED as declined:
            failure = declined
            continue
        if array is not None:
            return array
    place = _device(value)
    if place is not None and place[0] not in _DLPACK_HOST_DEVICES:
        remedy = f"it is on DLPack device type {place[0]}, number {place[1]}: copy it to the CPU first"
    elif (dense := _method_for_dense(value)) is not None:
        raise _sparse(value, name, dense) from failure
    else:
        remedy = "convert it to an array of float32 first"
    raise InputError(f"{name} is a {type_name(value)} that NumPy cannot read: {remedy}") from failure


def _is_sparse_tensor(value: Any) -> bool:
    """PyTorch's tensors say by their layout whether they are sparse; all of them have ``to_dense``."""
    return "sparse" in str(getattr(value, "layout", "")) and hasattr(value, "to_dense")


def _method_for_dense(value: object) -> str | None:
    """The method that makes a dense array of a sparse one: of SciPy, of JAX and of PyData's ``sparse``, in turn."""
    return next((method for method in ("toarray", "todense") if callable(getattr(value, method, None))), None)


def _sparse(value: object, name: str, method: str) -> InputError:
    return InputError(
        f"{name} is a {type_name(value)}, which is sparse, and a sum has a value for every element: convert it with "
        f".{method}() first"
    )


def _device(value: Any) -> tuple[int, int] | None:
    try:
        kind, number = value.__dlpack_device__()
        return int(kind), int(number)
    except _DECLINED:
        return None


def _through_dlpack(value: Any) -> RealArray | None:
    if not hasattr(value, "__dlpack__") or not hasattr(value, "__dlpack_device__"):
        return None
    return np.asarray(np.from_dlpack(value))


def _through_array(value: Any) -> RealArray | None:
    if not hasattr(value, "__array__"):
        return None
    array = value.__array__()
    return np.asarray(array) if isinstance(array, np.ndarray) else None


def _through_float32(value: Any) -> RealArray | None:
    """A tensor of floats that no protocol hands over, such as PyTorch's of 8 bits: the library widens it itself."""
    is_float, widen = getattr(value, "is_floating_point", None), getattr(value, "float", None)
    if not callable(is_float) or not callable(widen) or is_float() is not True:
        return None
    return _through_dlpack(widen())


class _DLTensor(ctypes.Structure):
    """``struct DLTensor`` of dlpack.h, which the unversioned capsule's pointer points to."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _through_dlpack_bfloat16(value: Any) -> npt.NDArray[np.float32] | None:
    """A bfloat16 tensor in the CPU's memory, copied to float32; None for anything else.

    The capsule is looked into and not consumed: it stays the owner of the memory and frees it when it is dropped.
    """
    place = _device(value)
    if place is None or place[0] not in _DLPACK_HOST_DEVICES:
        return None
    capsule = value.__dlpack__()
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )(capsule, b"dltensor")
    tensor = _DLTensor.from_address(pointer)
    if (tensor.code, tensor.bits, tensor.lanes) != (_DLPACK_BFLOAT, 16, 1):
        return None
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if 0 in shape:  # the data pointer may be null
        return np.empty(shape, np.float32)
    if tensor.strides:
        strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim))
    else:  # a null pointer: C order
        strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(tensor.ndim))
    span = 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    memory = (ctypes.c_uint16 * span).from_address(tensor.data + tensor.byte_offset)
    # NumPy refuses strides, negative ones too, that lead out of ``memory``.
    halves = np.ndarray(shape, np.uint16, buffer=memory, strides=tuple(2 * stride for stride in strides))
    return widened(halves)  # a copy: nothing points into the capsule's memory afterwards
