"""The encoder: layouts, what it takes and refuses, what comes back."""

from __future__ import annotations

import ctypes
import math
import pickle
import re
import subprocess
import sys
import tracemalloc
import weakref
import zipfile
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

import secagg.encoding
from secagg.arithmetic.modulus import Modulus
from secagg.encoding import Encoder, Exact, LayoutPolicy, Mean, Template, load_npz
from secagg.encoding.rounding import BLOCK, fixed_point_factor, round_block
from secagg.errors import ErrorCode, InputError, ParameterError, PeerError
from secagg.pairwise.config import RoundConfig
from secagg.released import ReleasedInputs


def seeded(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def zero_source(size: int) -> bytes:
    return bytes(size)


def total(vectors: list[np.ndarray]) -> np.ndarray:
    return np.sum([vector.astype(np.uint64) for vector in vectors], axis=0, dtype=np.uint64)


class Pair(NamedTuple):
    mean: Any
    spread: Any


# Stand-ins for arrays of other libraries: each offers the one protocol and nothing else.


class OnlyDLPack:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class OldDLPack(OnlyDLPack):
    """A producer from before DLPack had versions: it knows ``stream`` alone."""

    def __dlpack__(self, stream: None = None) -> Any:
        return self._array.__dlpack__()


class OnlyArray:
    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._array


class RecordsGradients(OnlyDLPack):
    """As a torch.nn.Parameter: exports nothing until it is detached."""

    requires_grad = True

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    def __array__(self) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")

    def detach(self) -> OnlyDLPack:
        return OnlyDLPack(self._array)


class OnDevice:
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("not on the CPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)

    def __array__(self) -> np.ndarray:
        raise TypeError("can't convert cuda:1 device type tensor to numpy. Use Tensor.cpu() first.")


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class HandMadeTensor:
    """A tensor of any 16-bit DLPack type over uint16 memory, bfloat16 by default; it offers nothing else."""

    def __init__(
        self,
        memory: np.ndarray,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        offset: int = 0,
        code: int = 4,
        device: tuple[int, int] = (1, 0),
    ) -> None:
        self._memory, self._device = memory, device
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._strides = None if strides is None else (ctypes.c_int64 * len(shape))(*strides)
        pointer = ctypes.POINTER(ctypes.c_int64)
        self._tensor = DLTensor(
            data=memory.ctypes.data,
            device=(ctypes.c_int32 * 2)(*device),
            ndim=len(shape),
            code=code,
            bits=16,
            lanes=1,
            shape=ctypes.cast(self._shape, pointer),
            strides=ctypes.cast(self._strides, pointer) if self._strides is not None else pointer(),
            byte_offset=offset,
        )

    def __dlpack__(self, stream: None = None) -> Any:
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(("PyCapsule_New", ctypes.pythonapi))(ctypes.addressof(self._tensor), b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def bfloat16_memory(values: np.ndarray) -> np.ndarray:
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def encoded_values(encoder: Encoder, update: Any, weight: int = 1) -> np.ndarray:
    """What ``encode`` makes of the values, without the weight and the counts behind them."""
    return encoder.encode(update, weight=weight)[: encoder.template.size]


class TestLayout:
    @pytest.mark.parametrize(
        ("bits", "max_weight", "tail", "input_max", "dtype"),
        [
            (2, None, 2, 2, "u1"),
            (8, None, 1, 254, "u1"),
            (9, None, 1, 510, "u2"),
            (16, None, 1, 65534, "u2"),
            (17, None, 1, 2**17 - 2, "u4"),
            (32, None, 1, 2**32 - 2, "u4"),
            (16, 1, 1 + 1 + 1, 65534, "u2"),
            (16, 65534, 1 + 1 + 1, 65534, "u2"),
            (16, 65535, 2 + 1 + 1, 65534, "u2"),
            (16, 65536, 2 + 1 + 1, 65534, "u2"),
            (2, 2, 1 + 1 + 2, 2, "u1"),
            (2, 3, 2 + 1 + 2, 2, "u1"),
            (2, 9, 3 + 1 + 2, 2, "u1"),
            (8, 2**53, 7 + 1 + 1, 254, "u1"),
            (32, 2**53, 2 + 1 + 1, 2**32 - 2, "u4"),
        ],
    )
    def test_length_range_and_dtype(
        self, bits: int, max_weight: int | None, tail: int, input_max: int, dtype: str
    ) -> None:
        encoder = Encoder(np.zeros(5), clip=1.0, bits=bits, max_weight=max_weight)
        assert encoder.length == 5 + tail
        assert encoder.input_max == input_max
        assert encoder.dtype == np.dtype(dtype)
        vector = encoder.encode(np.array([-1.0, 1.0, 0.0, -9.0, 9.0]), weight=max_weight or 1)
        assert vector.dtype == encoder.dtype
        assert vector.shape == (encoder.length,)
        assert vector.flags.c_contiguous
        middle = 2 ** (bits - 1) - 1
        assert vector[:5].tolist() == [0, 2 * middle, middle, 0, 2 * middle]

    def test_properties_say_what_was_asked_for(self) -> None:
        encoder = Encoder({"w": np.zeros((2, 3))}, np.float32(0.5), np.int64(12), max_weight=np.int32(9))
        assert (encoder.clip, encoder.bits, encoder.max_weight) == (0.5, 12, 9)
        assert encoder.template == Template.of({"w": np.ones((2, 3))})
        assert repr(encoder) == "Encoder(Template(1 array, 6 elements), clip=0.5, bits=12, max_weight=9)"

    @pytest.mark.parametrize(
        "clip", [0, 0.0, -1.0, math.nan, math.inf, -math.inf, 1e101, 1e-101, 10**400, "1", True, None]
    )
    def test_clip_out_of_range(self, clip: Any) -> None:
        with pytest.raises(ParameterError, match=r"^clip is .*: must be a number from 1e-100 to 1e\+100$"):
            Encoder(np.zeros(1), clip=clip)

    @pytest.mark.parametrize("bits", [1, 0, -3, 33, 16.0, "16", True, None])
    def test_bits_out_of_range(self, bits: Any) -> None:
        with pytest.raises(ParameterError, match=r"^bits is .*: must be a whole number from 2 to 32$"):
            Encoder(np.zeros(1), clip=1.0, bits=bits)

    @pytest.mark.parametrize("max_weight", [0, -1, 2**53 + 1, 1.0, True, "5"])
    def test_max_weight_out_of_range(self, max_weight: Any) -> None:
        with pytest.raises(
            ParameterError, match=r"^max_weight is .*: must be a whole number from 1 to 90071992547\d+$"
        ):
            Encoder(np.zeros(1), clip=1.0, max_weight=max_weight)

    @pytest.mark.parametrize("template", [{}, [], None, np.zeros(0), {"a": np.zeros((0, 3)), "b": None}])
    def test_template_without_elements(self, template: Any) -> None:
        with pytest.raises(ParameterError, match="holds no elements"):
            Encoder(template, clip=1.0)

    @pytest.mark.parametrize(("bits", "max_weight"), [(2, None), (16, None), (16, 65535), (32, 7)])
    @pytest.mark.parametrize("clients", [1, 2, 3, 100, 1024, 2**20])
    def test_modulus_is_the_smallest_that_holds_the_sum(self, bits: int, max_weight: int | None, clients: int) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0, bits=bits, max_weight=max_weight)
        modulus = encoder.modulus_for(clients)
        assert modulus.value // 2 <= clients * encoder.input_max < modulus.value
        encoder.check_capacity(clients, modulus)
        with pytest.raises(
            ParameterError, match=rf"reach {clients * encoder.input_max}, .* ring of {modulus.bits} bits"
        ):
            encoder.check_capacity(clients, Modulus.ring(modulus.bits - 1))

    def test_capacity_of_a_prime_is_exact(self) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0, bits=2)  # elements up to 2
        encoder.check_capacity(3, Modulus(7))
        with pytest.raises(ParameterError, match="modulus 7 cannot hold the sum: 4 clients"):
            encoder.check_capacity(4, Modulus(7))

    def test_the_widest_ring(self) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0, bits=32)
        assert encoder.modulus_for(2**32) == Modulus.ring(64)
        with pytest.raises(ParameterError, match="need a ring of 65 bits, and 64 is the most"):
            encoder.modulus_for(2**32 + 3)
        with pytest.raises(ParameterError, match="ring of 65 bits"):
            encoder.check_capacity(2**32 + 3, Modulus.ring(64))

    @pytest.mark.parametrize("clients", [0, -1, 2.0, True])
    def test_clients_out_of_range(self, clients: Any) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0)
        with pytest.raises(ParameterError, match="clients is"):
            encoder.modulus_for(clients)
        with pytest.raises(ParameterError, match="clients is"):
            encoder.check_capacity(clients, Modulus.ring(32))


class TestLayoutDigest:
    UPDATE: ClassVar[Any] = {"layer": {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3)}, "steps": 0}

    def test_frozen(self) -> None:
        digest = Encoder(self.UPDATE, clip=0.1, bits=12, max_weight=100).layout_digest()
        assert digest.hex() == "49650f373de423904f92499b4d53dc47e29a34d2587b14038c4c6969659ff312"

    @pytest.mark.parametrize(
        "other",
        [
            Encoder(UPDATE, clip=0.25),
            Encoder(UPDATE, clip=0.5, bits=15),
            Encoder(UPDATE, clip=0.5, max_weight=1),
            Encoder({"layer": {"b": np.zeros(3), "w": np.zeros((2, 3))}, "steps": 0}, clip=0.5),
            Encoder({"layer": {"w": np.zeros((3, 2)), "b": np.zeros(3)}, "steps": 0}, clip=0.5),
            Encoder({"layer": {"w": np.zeros((2, 3)), "c": np.zeros(3)}, "steps": 0}, clip=0.5),
            Encoder({"layer.w": np.zeros((2, 3)), "layer.b": np.zeros(3), "steps": 0}, clip=0.5),
            Encoder({"layer": {"w": np.zeros((2, 3)), "b": np.zeros(3)}, "steps": np.zeros(1)}, clip=0.5),
        ],
    )
    def test_differs_with_the_layout(self, other: Encoder) -> None:
        assert other.layout_digest() != Encoder(self.UPDATE, clip=0.5).layout_digest()

    def test_is_the_same_for_other_values_dtypes_and_containers(self) -> None:
        ours = Encoder([self.UPDATE, np.zeros(2)], clip=0.5)
        update = OrderedDict(layer={"w": np.ones((2, 3), np.int8), "b": np.ones(3)}, steps=np.float16(1))
        theirs = Encoder((update, np.zeros(2, ">f8")), clip=np.float32(0.5))
        assert ours.layout_digest() == theirs.layout_digest()
        assert len(ours.layout_digest()) == 32

    def test_tells_int_keys_from_str_keys(self) -> None:
        digests = {Encoder({key: np.zeros(1)}, clip=1.0).layout_digest() for key in (0, "0")}
        assert len(digests) == 2


class TestStructure:
    NESTED: ClassVar[Any] = {
        "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "blocks": [(np.arange(2.0), np.float16(3)), {7: np.array(5, np.int64), "": True}],
        "stats": Pair(np.arange(4.0), None),
        "none": None,
        "empty": np.zeros((0, 2)),
        "rate": 0.25,
        "wide": np.float64(2),
        "epoch": 3,
        "ordered": OrderedDict(z=np.ones(1), a=np.zeros(1)),
        "nothing": [],
    }

    def test_names_and_places(self) -> None:
        template = Template.of(self.NESTED)
        assert template.slices == {
            "layer.weight": slice(0, 6),
            "blocks[0][0]": slice(6, 8),
            "blocks[0][1]": slice(8, 9),
            "blocks[1][7]": slice(9, 10),
            "blocks[1]['']": slice(10, 11),
            "stats.mean": slice(11, 15),
            "empty": slice(15, 15),
            "rate": slice(15, 16),
            "wide": slice(16, 17),
            "epoch": slice(17, 18),
            "ordered.z": slice(18, 19),
            "ordered.a": slice(19, 20),
        }
        assert template.size == 20
        assert [leaf.shape for leaf in template.leaves[:4]] == [(2, 3), (2,), (), ()]
        assert template.leaves[1].keys == ("blocks", 0, 0)

    def test_the_vector_is_the_arrays_in_order(self) -> None:
        encoder = Encoder({"b": np.zeros((2, 2)), "a": np.zeros(1)}, clip=127.0, bits=8)
        vector = encoded_values(encoder, {"a": np.array([5.0]), "b": np.array([[1.0, 2.0], [3.0, 4.0]])})
        assert (vector.astype(int) - 127).tolist() == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("dtype", ["float64", "template"])
    def test_comes_back_as_it_was(self, dtype: Any) -> None:
        encoder = Encoder(self.NESTED, clip=127.0, bits=8)
        mean = encoder.decode_sum(encoder.encode(self.NESTED), 1, dtype).mean
        assert type(mean) is dict
        assert list(mean) == list(self.NESTED)
        assert type(mean["blocks"]) is list
        assert type(mean["blocks"][0]) is tuple
        assert type(mean["stats"]) is Pair
        assert type(mean["ordered"]) is OrderedDict
        assert list(mean["ordered"]) == ["z", "a"]
        assert mean["none"] is None
        assert mean["stats"].spread is None
        assert mean["nothing"] == []
        again = Template.of(self.NESTED).flatten(mean)
        for value, wanted, leaf in zip(
            again, encoder.template.flatten(self.NESTED), encoder.template.leaves, strict=True
        ):
            if leaf.name != "rate":  # 0.25 is no whole step
                np.testing.assert_array_equal(value, wanted)
            assert value.dtype == (leaf.dtype if dtype == "template" else np.float64)
        if dtype == "template":
            assert type(mean["epoch"]) is int
            assert type(mean["rate"]) is float
            assert mean["blocks"][1][""] is True
            assert isinstance(mean["blocks"][1][7], np.ndarray)
            assert isinstance(mean["blocks"][0][1], np.ndarray)
            assert isinstance(mean["wide"], np.ndarray)
        else:
            assert mean["epoch"].shape == ()

    def test_a_bare_array(self) -> None:
        encoder = Encoder(np.zeros((2, 2), np.float32), clip=1.0)
        mean = encoder.decode_sum(encoder.encode(np.eye(2)), 1).mean
        np.testing.assert_array_equal(mean, np.eye(2))
        assert encoder.template.slices == {"update": slice(0, 4)}

    def test_lists_and_tuples_stand_for_one_another(self) -> None:
        template = Template.of([np.zeros(1), (np.zeros(2),)])
        assert [len(array) for array in template.flatten((np.ones(1), [np.ones(2)]))] == [1, 2]
        assert [len(array) for array in Template.of(Pair(0, 1)).flatten([0, 1])] == [1, 1]

    def test_any_mapping_is_a_dict(self) -> None:
        template = Template.of(UserDict(a=np.zeros(2)))
        assert template == Template.of({"a": np.ones(2)})
        assert template.restore([1]) == {"a": 1}

    def test_names_that_would_meet_are_spelt_out(self) -> None:
        template = Template.of({"a.b": np.zeros(1), "a": {"b": np.zeros(2)}})
        assert list(template.slices) == ["['a.b']", "['a']['b']"]

    def test_a_key_with_a_line_break_is_quoted(self) -> None:
        assert list(Template.of({"a\nb": np.zeros(1)}).slices) == [r"['a\nb']"]

    def test_equality_and_identity(self) -> None:
        template = Template.of({"a": np.zeros(2)})
        assert Template.of(template) is template
        assert template != Template.of({"a": np.zeros(2, np.float32)})
        assert Encoder(template, clip=1.0).template is template
        assert repr(template) == "Template(1 array, 2 elements)"

    def test_keeps_no_values(self) -> None:
        class Tracked(np.ndarray):
            pass

        update = np.zeros(3).view(Tracked)
        gone = weakref.ref(update)
        encoder = Encoder({"a": update}, clip=1.0)
        encoder.encode({"a": update})
        del update
        assert gone() is None

    def test_from_shapes(self) -> None:
        shapes = {"w": (784, 10), "rest": [(10,), (), (0, 2)]}
        template = Template.from_shapes(shapes, np.float16)
        zeros = {
            "w": np.zeros((784, 10), "f2"),
            "rest": [np.zeros(10, "f2"), np.zeros((), "f2"), np.zeros((0, 2), "f2")],
        }
        assert template == Template.of(zeros)

    def test_from_shapes_allocates_nothing(self) -> None:
        assert Template.from_shapes((10**6, 10**6)).size == 10**12

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            ({"w": 3}, "w: 3 is no shape"),
            ({"w": (3, -1)}, r"w: \(3, -1\) is no shape"),
            ([(2, 2.0)], r"\[0\]: \(2, 2.0\) is no shape"),
            ({"w": (True,)}, "is no shape"),
            ({1.5: (1,)}, "the key 1.5 of type float"),
        ],
    )
    def test_from_shapes_refuses(self, shapes: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Template.from_shapes(shapes)

    def test_from_shapes_refuses_dtypes(self) -> None:
        with pytest.raises(InputError, match="none that NumPy knows"):
            Template.from_shapes((3,), "float33")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="w holds complex64 elements"):
            Template.from_shapes({"w": (3,)}, np.complex64)

    def test_what_contains_itself(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        with pytest.raises(InputError, match=r"\[0\]\[0\]\[0\]... is nested deeper than 100"):
            Template.of(ring)
        shapes: dict[str, Any] = {}
        shapes["a"] = shapes
        with pytest.raises(InputError, match="nested deeper than 100"):
            Template.from_shapes(shapes)

    @pytest.mark.parametrize("key", [1.5, None, ("a",), True, b"a"])
    def test_keys_are_str_or_int(self, key: Any) -> None:
        with pytest.raises(InputError, match=r"x has the key .* must be str or int"):
            Template.of({"x": {key: np.zeros(1)}})


class TestStructureMismatch:
    TEMPLATE: ClassVar[Any] = {
        "layer1": {"weight": np.zeros((2, 3)), "bias": np.zeros(3)},
        "rows": [np.zeros(1)],
        "off": None,
    }

    def refuse(self, **changes: Any) -> str:
        encoder = Encoder(self.TEMPLATE, clip=1.0)
        with pytest.raises(InputError) as refused:
            encoder.encode({**self.TEMPLATE, **changes})
        return str(refused.value)

    def test_missing_and_unknown_keys_are_named(self) -> None:
        message = self.refuse(layer1={"weight": np.zeros((2, 3)), "bais": np.zeros(3)})
        assert "lacks layer1.bias and holds unknown layer1.bais" in message

    def test_missing_alone(self) -> None:
        assert "the update lacks layer1.bias:" in self.refuse(layer1={"weight": np.zeros((2, 3))})

    def test_unknown_alone(self) -> None:
        assert "the update holds unknown extra:" in self.refuse(extra=np.zeros(1))

    def test_a_long_list_is_cut(self) -> None:
        extras = {f"x{index:02}": 0.0 for index in range(30)}
        assert "x07 and 22 more" in self.refuse(**extras)
        assert "x08" not in self.refuse(**extras)

    def test_int_keys(self) -> None:
        with pytest.raises(InputError, match=re.escape("lacks [0] and holds unknown 0:")):
            Template.of({0: np.zeros(1)}).flatten({"0": np.zeros(1)})

    @pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), (), (1, 3)])
    def test_shapes_are_never_broadcast(self, shape: tuple[int, ...]) -> None:
        message = self.refuse(layer1={"weight": np.zeros(shape), "bias": np.zeros(3)})
        assert f"layer1.weight has shape {shape}, the template's has (2, 3)" in message

    def test_length_one_is_not_a_scalar(self) -> None:
        with pytest.raises(InputError, match=r"update has shape \(1,\)"):
            Template.of(0.0).flatten(np.zeros(1))

    def test_kinds_of_containers(self) -> None:
        assert "layer1 is a list, the template has a dict there" in self.refuse(layer1=[np.zeros(3)])
        assert "rows is a dict, the template has a list there" in self.refuse(rows={0: np.zeros(1)})
        assert "rows is a numpy.ndarray, the template has a list there" in self.refuse(rows=np.zeros(1))
        assert "rows has 2 entries, the template's has 1" in self.refuse(rows=[np.zeros(1), np.zeros(1)])
        assert "off is a numpy.ndarray, the template has None there" in self.refuse(off=np.zeros(1))
        assert "layer1.bias is a NoneType" in self.refuse(layer1={"weight": np.zeros((2, 3)), "bias": None})

    def test_fields_of_namedtuples(self) -> None:
        other = namedtuple("other", "mean width")
        with pytest.raises(InputError, match="update has the fields mean, width, the template's has mean, spread"):
            Template.of(Pair(0.0, 0.0)).flatten(other(0.0, 0.0))


class TestLeaves:
    VALUES = np.array([[-3, 0, 7], [100, -127, 1]])
    CODED = (VALUES + 127).reshape(-1).tolist()

    def encode(self, update: Any, shape: tuple[int, ...] = (2, 3)) -> list[int]:
        vector: list[int] = encoded_values(Encoder(np.zeros(shape), clip=127.0, bits=8), update).tolist()
        return vector

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", ">f2", ">f4", ">f8", "i1", "i2", ">i4", "i8", "=i8"])
    def test_real_dtypes(self, dtype: str) -> None:
        assert self.encode(self.VALUES.astype(dtype)) == self.CODED

    def test_unsigned_and_bool(self) -> None:
        for dtype in ("u1", "u2", ">u4", "u8"):
            assert self.encode(np.arange(6, dtype=dtype).reshape(2, 3)) == [127, 128, 129, 130, 131, 132]
        assert self.encode(np.array([True, False]), (2,)) == [128, 127]

    def test_memory_layouts(self) -> None:
        values = self.VALUES.astype(np.float32)
        spread = np.zeros((4, 9), np.float32)
        spread[::2, ::-3] = values
        frozen = values.copy()
        frozen.flags.writeable = False
        for layout in (np.asfortranarray(values), spread[::2, ::-3], values.T.copy().T, frozen):
            assert self.encode(layout) == self.CODED
        assert self.encode(np.broadcast_to(np.float32(5), (2, 3))) == [132] * 6
        unaligned = np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)
        unaligned[...] = values
        assert self.encode(unaligned) == self.CODED

    @pytest.mark.parametrize(
        "value", [5, 5.0, np.float16(5), np.int64(5), np.array(5), np.array(5, ">f4"), np.array(5, np.uint8)]
    )
    def test_no_dimensions(self, value: Any) -> None:
        assert self.encode(value, ()) == [132]

    def test_true_is_one(self) -> None:
        assert self.encode(True, ()) == [128]
        assert self.encode(np.bool(True), ()) == [128]

    def test_wide_integers_are_clipped(self) -> None:
        values = np.array([2**63 - 1, -(2**63), 2**53 + 1])
        assert self.encode(values, (3,)) == [254, 0, 254]
        assert self.encode(np.array([2**64 - 1], np.uint64), (1,)) == [254]
        assert self.encode(2**63, ()) == [254]

    def test_an_int_beyond_64_bits(self) -> None:
        with pytest.raises(InputError, match="update holds object elements"):
            self.encode(2**64, ())

    def test_long_double_beyond_float64(self) -> None:
        wide = np.array([1.0, np.finfo(np.longdouble).max], np.longdouble)
        if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
            with pytest.raises(InputError, match="0 NaN and 1 infinite values among 2, the first at index"):
                self.encode(wide, (2,))
        else:
            assert self.encode(wide, (2,)) == [128, 254]

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (np.array(["a"]), "<U1 elements"),
            (np.array([b"a"]), r"\|S1 elements"),
            (np.array([1, None]), "object elements"),
            (np.array([1j]), "complex128 elements"),
            (np.array(["2020-01-01"], "M8[D]"), r"datetime64\[D\] elements"),
            (np.array([1], "m8[s]"), r"timedelta64\[s\] elements"),
            (np.zeros(1, [("x", "f4")]), "elements"),
            (np.zeros(1, "V4"), r"\|V4 elements"),
            (np.array(["a"], np.dtypes.StringDType()), "StringDType"),
            (OnlyArray(np.array([1j])), "complex128 elements"),
            (OnlyDLPack(np.array([1j])), "complex128 elements"),
            (OnlyArray(np.array([None])), "object elements"),
            (np.ma.masked_array([1.0], [True]), "masked array"),
            ("text", "is a str"),
            (b"bytes", "is a bytes"),
            (1j, "is a complex"),
            ({1.0}, "is a set"),
            (range(1), "is a range"),
            (Fraction(1, 2), "is a fractions.Fraction"),
            (object(), "is a object"),
            (np.ndarray, "is a type"),
            (OnlyArray, "is a type"),
            (SimpleNamespace(a=1), "is a types.SimpleNamespace"),
            (OnlyArray("no array"), "OnlyArray that NumPy cannot read"),
        ],
    )
    def test_refused_by_name(self, value: Any, named: str) -> None:
        with pytest.raises(InputError, match=rf"^layer\.w .*{named}"):
            Template.of({"layer": {"w": value}})
        with pytest.raises(InputError, match=rf"^layer\.w .*{named}"):
            Template.of({"layer": {"w": np.zeros(1)}}).flatten({"layer": {"w": value}})

    def test_a_dataclass_is_refused_by_name(self) -> None:
        @dataclass
        class State:
            w: Any

        with pytest.raises(InputError, match=r"State: allowed are arrays"):
            Template.of({"a": State(np.zeros(1))})


class TestOtherLibraries:
    VALUES = np.array([[-3, 0, 7], [100, -127, 1]], np.float32)
    CODED = (VALUES.astype(int) + 127).reshape(-1).tolist()

    def encode(self, update: Any, shape: tuple[int, ...] = (2, 3)) -> list[int]:
        encoder = Encoder({"w": np.zeros(shape)}, clip=127.0, bits=8)
        vector: list[int] = encoded_values(encoder, {"w": update}).tolist()
        return vector

    @pytest.mark.parametrize("wrap", [OnlyDLPack, OldDLPack, OnlyArray, RecordsGradients])
    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8"])
    def test_protocols(self, wrap: Any, dtype: str) -> None:
        assert self.encode(wrap(self.VALUES.astype(dtype))) == self.CODED
        assert self.encode(wrap(np.asfortranarray(self.VALUES, dtype))) == self.CODED
        assert self.encode(wrap(np.array(3, dtype)), ()) == [130]
        (empty,) = Template.of(np.zeros((0, 3))).flatten(wrap(np.zeros((0, 3), dtype)))
        assert empty.size == 0

    @pytest.mark.parametrize("wrap", [OnlyDLPack, OnlyArray])
    def test_template_takes_shape_and_dtype(self, wrap: Any) -> None:
        update = {"w": wrap(self.VALUES), "n": wrap(np.array(3)), "flag": wrap(np.array([True]))}
        template = Template.of(update)
        assert template == Template.of({"w": self.VALUES, "n": np.array(3), "flag": np.array([True])})
        encoder = Encoder(template, clip=127.0, bits=8)
        mean = encoder.decode_sum(encoder.encode(update), 1, "template").mean
        assert {name: array.dtype for name, array in mean.items()} == {"w": "f4", "n": "i8", "flag": "?"}
        np.testing.assert_array_equal(mean["w"], self.VALUES)
        assert mean["flag"].tolist() == [True]

    def test_a_tensor_on_another_device(self) -> None:
        with pytest.raises(
            InputError, match=r"w is a .*OnDevice .* DLPack device type 2, number 1: copy it to the CPU"
        ):
            self.encode(OnDevice())

    def test_the_librarys_own_error_is_the_cause(self) -> None:
        with pytest.raises(InputError) as refused:
            self.encode(OnDevice())
        assert isinstance(refused.value.__cause__, TypeError | BufferError)

    @pytest.mark.parametrize(
        ("view", "strides", "offset"),
        [
            (np.s_[:, :], None, 0),
            (np.s_[:, :], (6, 1), 0),
            (np.s_[1:, ::2], (6, 2), 12),
            (np.s_[2, :], (1,), 24),
            (np.s_[:, 0], (6,), 0),
            (np.s_[1, 1], (), 14),
        ],
    )
    def test_bfloat16(self, view: Any, strides: tuple[int, ...] | None, offset: int) -> None:
        values = np.arange(-12, 12, dtype=np.float32).reshape(4, 6)
        tensor = HandMadeTensor(bfloat16_memory(values), values[view].shape, strides, offset)
        (array,) = Template.of(values[view]).flatten(tensor)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values[view].reshape(-1))
        assert Template.of(tensor).leaves[0].dtype == np.float32

    def test_bfloat16_transposed_and_kept_alive_by_nobody(self) -> None:
        values = np.arange(24, dtype=np.float32).reshape(4, 6)
        memory = bfloat16_memory(values)
        (array,) = Template.of(values.T).flatten(HandMadeTensor(memory, (6, 4), (1, 6)))
        memory[:] = 0
        np.testing.assert_array_equal(array, values.T.reshape(-1))

    def test_bfloat16_keeps_nan_and_infinity_to_be_refused(self) -> None:
        memory = bfloat16_memory(np.array([1, np.nan, -np.inf], np.float32))
        with pytest.raises(InputError, match=r"^w holds 1 NaN and 1 infinite values among 3, the first at index \[1\]"):
            self.encode(HandMadeTensor(memory, (3,), None), (3,))

    def test_bfloat16_empty(self) -> None:
        tensor = HandMadeTensor(np.zeros(1, np.uint16), (3, 0), (1, 1))
        tensor._tensor.data = None
        assert Template.of(tensor).leaves[0].shape == (3, 0)

    @pytest.mark.parametrize(
        "tensor",
        [
            HandMadeTensor(np.zeros(4, np.uint16), (2,), (-1,), 2),
            HandMadeTensor(np.zeros(4, np.uint16), (2,), (1,), code=7),
            HandMadeTensor(np.zeros(4, np.uint16), (2,), (1,), device=(2, 0)),
        ],
    )
    def test_what_else_dlpack_may_hold(self, tensor: Any) -> None:
        with pytest.raises(InputError, match=r"w is a .*HandMadeTensor that NumPy cannot read"):
            self.encode(tensor, (2,))

    def test_imports_no_framework_and_no_kernel(self) -> None:
        code = (
            "import sys, secagg.encoding\n"
            "bad = {'torch', 'jax', 'numba', 'ml_dtypes', 'tensorflow'} & set(sys.modules)\n"
            "sys.exit(repr(bad) if bad else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_exports(self) -> None:
        assert sorted(secagg.encoding.__all__) == [
            "DecodedMean", "Encoder", "Exact", "Layout", "LayoutPolicy", "Leaf", "Mean", "SumResult", "Template",
            "UpdateEncoder", "load_npz",
        ]  # fmt: skip


class TestNotFinite:
    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
    def test_names_array_count_and_index(self, dtype: str) -> None:
        update = {"a": np.zeros(4, dtype), "layer1": {"weight": np.ones((2, 3, 4), dtype)}}
        encoder = Encoder(update, clip=1.0)
        update["layer1"]["weight"][1, 2, 0] = np.inf
        update["layer1"]["weight"][1, 2, 3] = np.nan
        update["layer1"]["weight"][1, 0, 1] = -np.inf
        with pytest.raises(InputError) as refused:
            encoder.encode(update)
        assert str(refused.value).startswith(
            "layer1.weight holds 1 NaN and 2 infinite values among 24, the first at index [1, 0, 1]: "
        )

    def test_no_index_without_dimensions(self) -> None:
        with pytest.raises(InputError, match="update holds 1 NaN and 0 infinite values among 1: only"):
            Encoder(0.0, clip=1.0).encode(math.nan)

    def test_weight_zero_hides_nothing(self) -> None:
        with pytest.raises(InputError, match="1 NaN"):
            Encoder(np.zeros(2), clip=1.0, max_weight=5).encode(np.array([0, np.nan]), weight=0)

    @pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 6])
    def test_wherever_it_is(self, at: int) -> None:
        sizes = [5, BLOCK - 3, 10, 0, BLOCK - 5]
        update = [np.zeros(size, np.float32) for size in sizes]
        starts = np.cumsum([0, *sizes])
        leaf = int(np.searchsorted(starts, at, side="right")) - 1
        update[leaf][at - starts[leaf]] = np.nan
        place = at - starts[leaf]
        message = rf"^\[{leaf}\] holds 1 NaN and 0 infinite values among {sizes[leaf]}, the first at index \[{place}\]"
        with pytest.raises(InputError, match=message):
            Encoder(update, clip=1.0).encode(update)

    def test_a_refused_update_changes_nothing(self) -> None:
        encoder = Encoder(np.zeros(2), clip=1.0)
        encoder.encode(np.array([0.0, 2.0]))
        with pytest.raises(InputError):
            encoder.encode(np.array([5.0, np.nan]))
        assert encoder.clipped == {"update": 1}


class TestClipping:
    def test_counts_by_name(self) -> None:
        update = {"a": np.array([0.5, -0.5, 0.51, -7]), "b": np.array([0.5]), "c": 9}
        encoder = Encoder(update, clip=0.5)
        assert encoder.clipped == {}
        encoder.encode(update)
        assert encoder.clipped == {"a": 2, "c": 1}
        encoder.encode({"a": np.zeros(4), "b": np.ones(1), "c": 0})
        assert encoder.clipped == {"b": 1}
        encoder.encode({"a": np.zeros(4), "b": np.zeros(1), "c": 0})
        assert encoder.clipped == {}

    def test_counts_over_blocks(self) -> None:
        values = np.zeros(3 * BLOCK + 7, np.float32)
        values[::5] = 2
        encoder = Encoder({"a": values[: BLOCK + 1], "b": values[BLOCK + 1 :]}, clip=1.0)
        encoder.encode({"a": values[: BLOCK + 1], "b": values[BLOCK + 1 :]})
        above = values > 1
        assert encoder.clipped == {"a": int(above[: BLOCK + 1].sum()), "b": int(above[BLOCK + 1 :].sum())}

    def test_is_before_weighing(self) -> None:
        encoder = Encoder(np.zeros(2), clip=1.0, bits=16, max_weight=2)
        mean = encoder.decode_sum(encoder.encode(np.array([4.0, -4.0]), weight=1), 1).mean
        np.testing.assert_allclose(mean, [1.0, -1.0], atol=encoder.error_bound(1, 1))
        assert encoder.clipped == {"update": 2}

    def test_the_answer_is_the_callers_own(self) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0)
        encoder.clipped["update"] = 5
        assert encoder.clipped == {}


class TestRounding:
    @pytest.mark.parametrize("bits", range(2, 33))
    @pytest.mark.parametrize("clip", [1.0, 0.1, 1 / 3, 1e-100, 1e100, 3.7e7, 5e-324 + 1e-99])
    def test_the_ends_of_the_range_never_overshoot(self, bits: int, clip: float) -> None:
        encoder = Encoder(np.zeros(64), clip=clip, bits=bits, randomness=seeded(bits))
        ends = np.array([clip, -clip] * 32)
        vector = encoded_values(encoder, ends).astype(np.int64)
        levels = 2 ** (bits - 1) - 1
        off = np.abs(vector - levels * (1 + np.sign(ends).astype(np.int64)))
        assert off.max() <= 1
        assert vector.max() <= encoder.input_max
        assert vector.min() >= 0

    def test_whole_steps_never_move(self) -> None:
        steps = np.arange(-127, 128)
        encoder = Encoder(steps, clip=127.0, bits=8)
        for _ in range(20):
            assert (encoded_values(encoder, steps).astype(int) - 127).tolist() == steps.tolist()

    @pytest.mark.parametrize("bits", [2, 16, 32])
    def test_weight_zero_is_the_middle_whatever_the_value(self, bits: int) -> None:
        encoder = Encoder(np.zeros(3), clip=0.3, bits=bits, max_weight=7)
        assert encoder.encode(np.array([0.3, -0.2, 0.1]), weight=0)[:3].tolist() == [2 ** (bits - 1) - 1] * 3

    @pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9, 1e-3])
    @pytest.mark.parametrize("whole", [0, 5, -6])
    def test_unbiased(self, whole: int, fraction: float) -> None:
        """Seeded, so that it gives the same every time; six standard errors of 200,000 draws."""
        size = 200_000
        encoder = Encoder(np.zeros(size), clip=127.0, bits=8, randomness=seeded(11))
        coded = encoded_values(encoder, np.full(size, whole + fraction)).astype(np.int64) - 127
        assert set(np.unique(coded)) == {whole, whole + 1}
        error = abs(coded.mean() - (whole + fraction))
        assert error <= 6 * math.sqrt(fraction * (1 - fraction) / size)

    def test_coordinates_and_calls_round_independently(self) -> None:
        size = 100_000
        encoder = Encoder(np.zeros(size), clip=127.0, bits=8, randomness=seeded(5))
        halves = np.full(size, 0.5)
        first, second = (encoded_values(encoder, halves).astype(np.int64) - 127 for _ in range(2))
        for left, right in ((first, second), (first[1:], first[:-1]), (first[:-BLOCK], first[BLOCK:])):
            agree = np.count_nonzero(left == right) / len(left)
            assert abs(agree - 0.5) <= 6 * 0.5 / math.sqrt(len(left))

    def test_exact_against_integers_at_the_thresholds(self) -> None:
        levels = 2**31 - 1
        for x in (0.0, 0.25, -0.25, 1 - 2.0**-32, -(2.0**-32), levels, -levels, levels - 2.0**-21, 12345.678):
            fixed = round(Fraction(x) * 2**32)
            edge = -fixed % 2**32
            random = np.array([0, 1, edge - 1, edge, edge + 1, 2**31, 2**32 - 1], np.int64) % 2**32
            out = np.empty(len(random), np.uint32)
            values = np.full(len(random), float(x))
            assert round_block(values, 2.0**32, levels, levels, random.astype(np.uint32), out) == 0
            assert out.tolist() == [(fixed + int(k) >> 32) + levels for k in random]

    @pytest.mark.parametrize("value", [1.0000000000000002, -1.0000000000000002, 1e300, -1e300])
    def test_a_value_beyond_the_bound_is_clipped_and_counted(self, value: float) -> None:
        random, out = np.zeros(37, np.uint32), np.zeros(37, np.uint32)
        assert round_block(np.full(37, -1.0), 2.0**32, 1.0, 1, random, out) == 0
        for at in range(37):
            values = np.ones(37)
            values[at] = value
            assert round_block(values, 2.0**32, 1.0, 1, random, out) == 1
            assert out.tolist() == [0 if value < 0 and index == at else 2 for index in range(37)]

    @pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
    def test_a_block_with_a_value_that_is_not_finite_is_told_of(self, value: float) -> None:
        random, out = np.zeros(37, np.uint32), np.zeros(37, np.uint32)
        for at in range(37):
            values = np.full(37, 3.0)
            values[at] = value
            assert round_block(values, 2.0**32, 1.0, 1, random, out) is None

    def test_clipping_a_block_leaves_the_rounding_of_all_others_as_it_was(self) -> None:
        values = np.linspace(-1, 1, 3 * BLOCK)
        plain = Encoder(values, clip=1.0, bits=16, randomness=seeded(7))
        clipping = Encoder(values, clip=1.0, bits=16, randomness=seeded(7))
        beyond = values.copy()
        beyond[[0, BLOCK, 2 * BLOCK - 1]] = -3.0, 5.0, 7.0
        expected = encoded_values(plain, values)
        expected[[0, BLOCK, 2 * BLOCK - 1]] = 0, 2**16 - 2, 2**16 - 2
        assert np.array_equal(encoded_values(clipping, beyond), expected)
        assert sum(clipping.clipped.values()) == 3

    def test_what_is_clipped_takes_no_further_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else a server that sets the clip, and waits for the vector, sees in the time whether a value is beyond it."""
        rounded: list[int] = []

        def counted(values: Any, *arguments: Any) -> int | None:
            rounded.append(len(values))
            return round_block(values, *arguments)

        monkeypatch.setattr("secagg.encoding.rounding.round_block", counted)
        encoder = Encoder(np.zeros(3 * BLOCK), clip=1.0)
        for largest in (0.5, 2.0):
            rounded.clear()
            encoder.encode(np.full(3 * BLOCK, largest))
            assert rounded == [BLOCK] * 3

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
    def test_sizes_around_a_block(self, size: int) -> None:
        values = np.arange(size) % 255 - 127
        encoder = Encoder(values, clip=127.0, bits=8, max_weight=300)
        vector = encoder.encode(values, weight=300)
        assert (vector[:size].astype(int) - 127 == values).all()
        assert vector[size:].tolist() == [
            300 % 255,
            300 // 255,
            1,
            *[0] * (1 if size + 1 < 255 else 2 if size + 1 < 255**2 else 3),
        ]

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, BLOCK + 1, BLOCK + 3])
    def test_every_element_has_random_bytes_of_its_own(self, size: int) -> None:
        """A short last group of four takes the same bytes as in a longer vector."""
        halves = np.full(2 * BLOCK, 0.5)
        for seed in range(12):
            whole = Encoder(halves, clip=127.0, bits=8, randomness=seeded(seed))
            part = Encoder(halves[:size], clip=127.0, bits=8, randomness=seeded(seed))
            np.testing.assert_array_equal(encoded_values(part, halves[:size]), encoded_values(whole, halves)[:size])

    def test_pieces_make_the_same_vector(self) -> None:
        values = np.random.default_rng(3).uniform(-1, 1, 2 * BLOCK + 77)
        whole = Encoder(values, clip=1.0, randomness=seeded(1)).encode(values)
        parts = np.split(values, [1, 2, 700, BLOCK, BLOCK + 3])
        np.testing.assert_array_equal(Encoder(parts, clip=1.0, randomness=seeded(1)).encode(parts), whole)

    def test_a_seed_replays_and_the_system_does_not(self) -> None:
        values = np.full(64, 0.123)
        one, two, other = (Encoder(values, clip=1.0, randomness=seeded(s)).encode(values).tolist() for s in (1, 1, 2))
        assert one == two != other
        encoder = Encoder(values, clip=1.0)
        assert len({encoder.encode(values).tobytes() for _ in range(5)}) == 5

    def test_draws_32_bytes_a_call(self) -> None:
        asked: list[int] = []

        def source(size: int) -> bytes:
            asked.append(size)
            return bytes(size)

        encoder = Encoder(np.zeros(100_000), clip=1.0, randomness=source)
        encoder.encode(np.zeros(100_000))
        encoder.encode(np.zeros(100_000))
        assert asked == [32, 32]

    def test_the_stream_is_frozen(self) -> None:
        """Under a fixed source the vector is these bytes: a changed label or stream order shows here."""
        values = np.linspace(-1, 1, 9)
        assert Encoder(values, clip=1.0, bits=4, randomness=zero_source).encode(values).tolist() == [
            0,
            2,
            4,
            5,
            7,
            9,
            10,
            13,
            14,
            0,
        ]

    @pytest.mark.parametrize(("source", "met"), [(lambda n: bytes(n - 1), "31 bytes"), (lambda n: "x" * n, "str")])
    def test_a_source_that_is_none(self, source: Any, met: str) -> None:
        with pytest.raises(ParameterError, match=rf"randomness\(32\) gave {met}"):
            Encoder(np.zeros(1), clip=1.0, randomness=source).encode(np.zeros(1))

    def test_factor_steps_down_where_rounding_would_overshoot(self) -> None:
        stepped = 0
        for k in range(1, 400):
            clip = k / 37
            factor = fixed_point_factor(2**31 - 1, clip, 1, 1)
            assert clip * factor <= (2**31 - 1) * 2.0**32
            stepped += factor != float(Fraction((2**31 - 1) << 32) / Fraction(clip))
        assert stepped > 0


class TestWeights:
    @pytest.mark.parametrize(("bits", "max_weight"), [(2, 1000), (8, 255), (8, 256), (16, 2**53), (32, 2**40)])
    def test_total_is_exact(self, bits: int, max_weight: int) -> None:
        rng = np.random.default_rng(bits)
        encoder = Encoder(np.zeros(2), clip=1.0, bits=bits, max_weight=max_weight)
        weights = [0, 1, max_weight, max_weight - 1, *(int(w) for w in rng.integers(0, max_weight, 20))]
        vectors = [encoder.encode(np.zeros(2), weight=weight) for weight in weights]
        assert max(int(vector.max()) for vector in vectors) <= encoder.input_max
        assert encoder.decode_sum(total(vectors), len(weights)).weight == sum(weights)

    def test_weighted_mean(self) -> None:
        encoder = Encoder(np.zeros(2), clip=2.0, bits=24, max_weight=100)
        vectors = [encoder.encode(np.array([1.0, -2.0]), weight=30), encoder.encode(np.array([-1.0, 1.0]), weight=10)]
        decoded = encoder.decode_sum(total(vectors), 2)
        np.testing.assert_allclose(decoded.mean, [0.5, -1.25], rtol=0, atol=encoder.error_bound(2, 40))
        assert (decoded.weight, decoded.count) == (40, 2)

    def test_default_is_one(self) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0, max_weight=9)
        assert encoder.encode(np.zeros(1))[1:].tolist() == [1, 1, 0]

    def test_numpy_integers_are_integers(self) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0, max_weight=9)
        assert encoder.encode(np.zeros(1), weight=np.int16(7))[1] == 7
        assert encoder.encode(np.zeros(1), weight=np.array(7))[1] == 7

    @pytest.mark.parametrize("weight", [-1, 2.0, "3", None, True, np.True_, np.array([1, 2])])
    def test_what_is_no_weight(self, weight: Any) -> None:
        with pytest.raises(InputError, match=r"^weight .*: must be a whole number from 0 up"):
            Encoder(np.zeros(1), clip=1.0, max_weight=9).encode(np.zeros(1), weight=weight)

    @pytest.mark.parametrize("weight", [10, 2**53 + 1, 10**30])
    def test_a_weight_that_is_too_large_is_clamped_and_counted(self, weight: int) -> None:
        """It was refused: a server could ask who has more examples than it said, and be answered by who left."""
        encoder = Encoder(np.zeros(2), clip=1.0, bits=24, max_weight=9)
        light = encoder.encode(np.array([1.0, 0.5]), weight=3)
        assert not encoder.weight_clamped
        heavy = encoder.encode(np.array([-1.0, 0.5]), weight=weight)
        assert encoder.weight_clamped
        assert encoder.clipped == {}
        decoded = encoder.decode_sum(total([light, heavy]), 2)
        assert (decoded.weight, decoded.contributors, decoded.clipped) == (12, 2, 1)
        np.testing.assert_allclose(decoded.mean, [-0.5, 0.5], atol=encoder.error_bound(2, 12))

    @pytest.mark.parametrize("weight", [0, 2, 1.0, True])
    def test_encoder_without_weights(self, weight: Any) -> None:
        encoder = Encoder(np.zeros(1), clip=1.0)
        assert len(encoder.encode(np.zeros(1), weight=1)) == 2
        with pytest.raises(InputError, match="this encoder has no weights"):
            encoder.encode(np.zeros(1), weight=weight)


class TestDecode:
    def test_takes_a_result(self) -> None:
        encoder = Encoder({"w": np.zeros(3)}, clip=1.0)
        vectors = [encoder.encode({"w": np.full(3, value)}) for value in (-1.0, 0.0, 1.0, 1.0)]
        decoded = encoder.decode(SimpleNamespace(sum=total(vectors), included=frozenset({1, 4, 5, 9}), min_survivors=4))
        assert isinstance(decoded, Mean)
        np.testing.assert_allclose(decoded.mean["w"], 0.25, rtol=1e-15)
        assert decoded.mean["w"].dtype == np.float64
        assert decoded.mean["w"].flags.writeable
        assert (decoded.weight, decoded.count) == (4, 4)
        summed = SimpleNamespace(sum=total(vectors), included=[1, 4, 5, 9], min_survivors=4)
        same = encoder.decode(summed, dtype="template")
        assert same.mean["w"].tolist() == decoded.mean["w"].tolist()

    @pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", ">u4"])
    def test_any_unsigned_dtype(self, dtype: str) -> None:
        encoder = Encoder(np.zeros(2), clip=1.0, bits=3)
        vector = total([encoder.encode(np.array([1.0, -1.0]))] * 9).astype(dtype)
        assert encoder.decode_sum(vector, 9).mean.tolist() == [1.0, -1.0]
        assert encoder.decode_sum(np.repeat(vector, 2)[::2], 9).mean.tolist() == [1.0, -1.0]

    def test_up_to_the_widest_sum(self) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0, bits=32)
        count = (2**64 - 1) // encoder.input_max
        half = count * (2**31 - 1)
        mean = encoder.decode_sum(np.array([0, half, 2 * half, 0], np.uint64), count).mean
        np.testing.assert_allclose(mean, [-1.0, 0.0, 1.0], rtol=1e-15)
        with pytest.raises(
            InputError, match=rf"count is {count + 1}: must be a whole number from 1 to {count}: it is the number"
        ):
            encoder.decode_sum(np.zeros(4, np.uint64), count + 1)

    def test_more_than_a_block(self) -> None:
        values = np.arange(2 * BLOCK + 5) % 255 - 127
        encoder = Encoder({"a": values[:9], "b": values[9:]}, clip=127.0, bits=8)
        mean = encoder.decode_sum(encoder.encode({"a": values[:9], "b": values[9:]}), 1).mean
        np.testing.assert_array_equal(np.concatenate([mean["a"], mean["b"]]), values)

    @pytest.mark.parametrize(
        ("vector", "message"),
        [
            ([1, 2], "the sum is list: pass the 1-d unsigned"),
            (np.zeros((2, 1), np.uint8), "the sum is 2-d uint8"),
            (np.zeros(2, np.int64), "the sum is 1-d int64"),
            (np.zeros(2), "the sum is 1-d float64"),
            (np.zeros(4, np.uint8), "the sum has 4 elements, this layout 3"),
        ],
    )
    def test_refuses_what_is_no_sum(self, vector: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Encoder(np.zeros(2), clip=1.0).decode_sum(vector, 1)

    @pytest.mark.parametrize("count", [0, -1, 1.0, True])
    def test_refuses_what_is_no_count(self, count: Any) -> None:
        with pytest.raises(InputError, match=r"^count is .*: it is the number of clients in the sum"):
            Encoder(np.zeros(2), clip=1.0).decode_sum(np.zeros(3, np.uint8), count)

    def test_refuses_an_unknown_dtype(self) -> None:
        with pytest.raises(ParameterError, match="dtype 'float32': allowed are 'float64' and 'template'"):
            Encoder(np.zeros(1), clip=1.0).decode_sum(np.zeros(2, np.uint8), 1, "float32")  # type: ignore[arg-type]

    def test_refuses_a_sum_that_no_clients_make(self) -> None:
        encoder = Encoder({"a": np.zeros(2), "e": np.zeros(0), "b": np.zeros(2)}, clip=1.0, bits=4, max_weight=20)
        good = np.array([0, 0, 14, 0, 5, 1, 1, 5], np.uint64)  # weight 5 + 1 * 15, one contributor, 5 values clipped
        assert encoder.decode_sum(good, 1).weight == 20
        for at, value, message in (
            (1, 15, "an element of a is 15 in the sum, and 1 client can reach 14"),
            (2, 15, "an element of b is 15"),
            (5, 15, "a digit of the weight is 15 in the sum, and 1 client can reach 1"),
            (4, 6, "the weight is 21 in the sum, and 1 client can reach 20"),
            (6, 2, "the number of contributors is 2 in the sum, and 1 client can reach 1"),
            (6, 0, "the total weight is 20 in the sum, and 0 clients with a weight from 1 to 20 cannot have that"),
            (7, 6, "the number of clipped values is 6 in the sum, and 1 client can reach 5"),
        ):
            bad = good.copy()
            bad[at] = value
            with pytest.raises(InputError, match=message):
                encoder.decode_sum(bad, 1)
            if at in (1, 2):
                another = np.array([7, 7, 7, 7, 0, 0, 0, 0], np.uint64)  # zeros of weight zero
                assert encoder.decode_sum(bad + another, 2).count == 2

    def test_too_few_contributors(self) -> None:
        """It was the plain mean of whoever had a weight, said to be one of all clients in the sum."""
        encoder = Encoder(np.zeros(1), clip=1.0, max_weight=5)
        for heavy in range(4):
            vectors = [encoder.encode(np.ones(1), weight=int(client < heavy)) for client in range(3)]
            summed = SimpleNamespace(sum=total(vectors), included=range(3), min_survivors=3)
            if heavy == 3:
                assert encoder.decode(summed).contributors == 3
                continue
            message = f"^{heavy} of the 3 clients in the sum have a weight above 0, and at least 3 must contribute"
            with pytest.raises(InputError, match=message):
                encoder.decode(summed)
            if heavy:
                mean = encoder.decode_sum(total(vectors), 3)
                assert (mean.count, mean.contributors) == (3, heavy)
            else:
                with pytest.raises(InputError, match=r"^0 of the 3 clients in the sum have a weight above 0"):
                    encoder.decode_sum(total(vectors), 3)

    @pytest.mark.parametrize("max_weight", [None, 9])
    def test_clipped_values_are_counted_over_all_clients(self, max_weight: int | None) -> None:
        encoder = Encoder({"a": np.zeros(300), "b": np.zeros(7)}, clip=1.0, bits=4, max_weight=max_weight)
        updates = [{"a": np.full(300, 2.0), "b": np.zeros(7)}, {"a": np.zeros(300), "b": np.full(7, -5.0)}]
        decoded = encoder.decode_sum(total([encoder.encode(update) for update in updates]), 2)
        assert decoded.clipped == 307

    def test_template_dtypes_round_and_stay_in_range(self) -> None:
        update = {
            "i": np.zeros(3, np.int16), "u": np.zeros(3, np.uint8), "t": np.zeros(3, np.bool), "h": np.zeros(3, ">f2"),
            "w": np.zeros(3, np.int64), "m": np.zeros(3, np.uint64), "g": np.zeros(3, np.longdouble), "n": 0,
        }  # fmt: skip
        encoder = Encoder(update, clip=1e30, bits=32)
        step = 1e30
        values = dict.fromkeys("iutwmhg", np.array([-step, 0.0, step])) | {"n": -step}
        mean = encoder.decode_sum(encoder.encode(values), 1, "template").mean
        assert mean["i"].tolist() == [-(2**15), 0, 2**15 - 1]
        assert mean["u"].tolist() == [0, 0, 255]
        assert mean["t"].tolist() == [False, False, True]
        assert mean["h"].tolist() == [-65504.0, 0.0, 65504.0]
        assert mean["h"].dtype == np.dtype(">f2")
        assert mean["w"].tolist() == [-(2**63), 0, 2**63 - 1024]
        assert mean["m"].tolist() == [0, 0, 2**64 - 2048]
        np.testing.assert_allclose(mean["g"].astype(float), [-1e30, 0.0, 1e30], rtol=1e-15)
        assert mean["n"] == -(2**63)

    def test_integers_round_half_to_even(self) -> None:
        encoder = Encoder(np.zeros(5, np.int32), clip=127.0, bits=8)
        vectors = [encoder.encode(np.array([0, 1, 2, -1, 3])), encoder.encode(np.array([1, 2, 3, 0, 4]))]
        mean = encoder.decode_sum(total(vectors), 2, "template").mean  # 0.5, 1.5, 2.5, -0.5, 3.5
        assert mean.tolist() == [0, 2, 2, 0, 4]
        assert mean.dtype == np.int32


class TestErrorBound:
    def test_is_one_step_without_weights(self) -> None:
        encoder = Encoder(np.zeros(1), clip=0.5, bits=16)
        step = 0.5 / (2**15 - 1)
        for count in (1, 10, 10**6):
            assert step < encoder.error_bound(count) <= step * (1 + 2.0**-30)
            assert encoder.error_bound(count, count) == encoder.error_bound(count)

    def test_grows_with_the_spread_of_weights(self) -> None:
        encoder = Encoder(np.zeros(1), clip=0.5, bits=16, max_weight=100)
        stated = 20 * 100 * 0.5 / ((2**15 - 1) * 350)
        assert stated < encoder.error_bound(20, 350) <= stated * (1 + 2.0**-30)

    def test_is_reached_but_for_a_hair(self) -> None:
        """Two clients just below a step: with the luck of the rounding both lose almost a whole one."""
        encoder = Encoder(np.zeros(4096), clip=127.0, bits=8, randomness=seeded(2))
        values = np.full(4096, 1.0 - 2.0**-7)
        mean = encoder.decode_sum(total([encoder.encode(values), encoder.encode(values)]), 2).mean
        errors = np.abs(mean - values)
        assert errors.max() <= encoder.error_bound(2)

    @pytest.mark.parametrize(
        ("count", "weight", "message"),
        [
            (0, 1, "count is 0"),
            (3, None, "total_weight is missing"),
            (3, 0, "total_weight is 0: must be a whole number from 1 to 30"),
            (3, 31, "total_weight is 31"),
            (1.5, 1, "count is 1.5"),
        ],
    )
    def test_refuses(self, count: Any, weight: Any, message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            Encoder(np.zeros(1), clip=1.0, max_weight=10).error_bound(count, weight)

    def test_without_weights_the_total_is_the_count(self) -> None:
        with pytest.raises(ParameterError, match=r"total_weight is 4: must be 3$"):
            Encoder(np.zeros(1), clip=1.0).error_bound(3, 4)


class TestUse:
    def test_pickles(self) -> None:
        encoder = Encoder({"a": Pair(np.zeros(2), 1.0)}, clip=0.5, max_weight=7)
        again = pickle.loads(pickle.dumps(encoder))
        assert again.layout_digest() == encoder.layout_digest()
        assert again.template == encoder.template
        assert again.encode({"a": Pair(np.ones(2), 1.0)}, weight=3)[3] == 3

    def test_many_threads_on_one_encoder(self) -> None:
        steps = [np.roll(np.arange(40_000) % 255 - 127, k) for k in range(8)]
        encoder = Encoder(steps[0], clip=127.0, bits=8)
        with ThreadPoolExecutor(4) as pool:
            vectors = list(pool.map(encoder.encode, steps))
        for vector, values in zip(vectors, steps, strict=True):
            assert (vector[: len(values)].astype(int) - 127 == values).all()

    def test_memory_is_the_vector_and_a_block(self) -> None:
        update = np.zeros(1_000_000, np.float32)
        encoder = Encoder(update, clip=1.0)
        vector = encoder.encode(update)
        tracemalloc.start()
        try:
            encoder.encode(update)
            encoding = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            encoder.decode_sum(vector, 1)
            decoding = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert encoding < 2_000_000 + 1_500_000
        assert decoding < 8_000_000 + 1_500_000

    def test_leaves_the_update_alone(self) -> None:
        update = np.array([0.3, 5.0, -5.0])
        Encoder(update, clip=1.0).encode(update)
        assert update.tolist() == [0.3, 5.0, -5.0]


class TestNpz:
    def test_round_trip(self, tmp_path: Path) -> None:
        arrays = {"b.weight": np.arange(6, dtype=">f4").reshape(2, 3), "a": np.array(3), "empty": np.zeros((0, 2))}
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / "update.npz", **arrays)
            loaded = load_npz(tmp_path / "update.npz")
            assert list(loaded) == list(arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array)
                assert loaded[name].dtype == array.dtype
        assert Template.of(load_npz(str(tmp_path / "update.npz"))) == Template.of(arrays)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.npz: there is no such file"):
            load_npz(tmp_path / "none.npz")
        with pytest.raises(InputError, match="there is no such file"):
            load_npz(tmp_path)

    def test_no_archive(self, tmp_path: Path) -> None:
        file = tmp_path / "x.npz"
        file.write_bytes(b"hello")
        with pytest.raises(InputError, match=r"not an .npz archive; write one with numpy.savez"):
            load_npz(file)
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
        with pytest.raises(InputError, match=r"not an .npz archive"):
            load_npz(file)

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", good=np.zeros(2), bad=np.array([{"a": 1}], object))
        with pytest.raises(InputError, match=r"array 'bad' cannot be read: .* never unpickled"):
            load_npz(tmp_path / "x.npz")

    def test_damaged(self, tmp_path: Path) -> None:
        file = tmp_path / "x.npz"
        np.savez(file, weights=np.arange(1000.0))
        content = bytearray(file.read_bytes())
        content[600] ^= 0xFF
        file.write_bytes(content)
        with pytest.raises(InputError, match="array 'weights' cannot be read: it is damaged"):
            load_npz(file)

    def test_empty(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz")
        with pytest.raises(InputError, match="holds no arrays"):
            load_npz(tmp_path / "x.npz")

    def test_a_member_that_is_no_array(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("notes.txt", "hello")
        with pytest.raises(InputError, match=r"'notes.txt' is no array"):
            load_npz(tmp_path / "x.npz")


class TestWhatNoEncoderMakes:
    def test_a_client_that_says_less_weight_than_it_gave(self) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0, max_weight=500)
        modulus = encoder.modulus_for(8).value
        honest = sum(encoder.encode(np.array([0.1, -0.2, 0.3]), weight=100).astype(int) for _ in range(7))
        middle = 2**15 - 1
        for total, others in ((1, False), (2, False), (690, True), (700, True)):
            # Its values are zeros, and its weight is what makes the total so small.
            liar = np.array([middle, middle, middle, (total - 700) % modulus, 0, 0])
            vector = ((honest + liar) % modulus).astype(np.uint64)
            if others:
                assert np.abs(np.asarray(encoder.decode_sum(vector, 8).mean)).max() <= 1.0
            else:
                with pytest.raises(InputError, match="total weight"):
                    encoder.decode_sum(vector, 8)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_the_largest_values_are_taken(self, sign: int) -> None:
        encoder = Encoder(np.zeros(2), clip=3.0, bits=8, max_weight=7)
        vectors = [encoder.encode(np.full(2, 3.0 * sign), weight=weight) for weight in (0, 1, 3, 7)]
        mean = encoder.decode_sum(sum(vector.astype(np.uint64) for vector in vectors), 4)
        assert mean.weight == 11
        assert np.abs(np.asarray(mean.mean) - 3.0 * sign).max() <= encoder.error_bound(4, 11)


class TestConfig:
    """What a client's host checks before ADVERTISE, from public values alone."""

    def config(self, encoder: Encoder, **changes: Any) -> RoundConfig:
        shape = {"length": encoder.length, "input_max": encoder.input_max} | changes
        return RoundConfig.for_cohort(10, gamma=0.2, delta=0.2, **shape)

    @pytest.mark.parametrize("max_weight", [None, 7, 70_000])
    def test_its_own_config_fits(self, max_weight: int | None) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0, max_weight=max_weight)
        encoder.check_config(self.config(encoder))
        encoder.check_config(self.config(encoder, input_max=encoder.input_max + 1))

    def test_an_input_max_that_would_ask_who_is_above_it(self) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0)
        for low in (1, encoder.input_max - 1):
            with pytest.raises(ParameterError, match=f"^the round's input_max is {low}, and .* reach 65534"):
                encoder.check_config(self.config(encoder, input_max=low))

    @pytest.mark.parametrize("more", [-1, 1])
    def test_another_length(self, more: int) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0)
        with pytest.raises(ParameterError, match="elements, this encoder's 4: "):
            encoder.check_config(self.config(encoder, length=encoder.length + more))

    def test_a_modulus_that_wraps(self) -> None:
        encoder = Encoder(np.zeros(3), clip=1.0)
        with pytest.raises(ParameterError, match="cannot hold the sum"):
            encoder.check_config(self.config(encoder, modulus=Modulus.ring(16), input_max=2**16 - 1))


class TestInputDigest:
    def test_tells_inputs_apart(self) -> None:
        update = {"a": np.linspace(-3, 3, 2 * BLOCK + 5), "b": np.zeros(3, np.float32)}
        others = [{**update, "b": np.array(b, np.float32)} for b in ([0, 0, 1e-9], [1e-9, 0, 0])]
        encoder = Encoder(update, clip=1.0, max_weight=10)
        digests = {encoder.input_digest(given) for given in (update, *others)}
        digests.add(encoder.input_digest(update, key=b"salt"))
        assert len(digests) == 4
        assert {len(digest) for digest in digests} == {32}

    def test_a_layout_that_differs_by_a_hair_asks_for_the_same_input(self) -> None:
        """With the layout in it, a server could have an input again by another clip."""
        update = {"a": np.arange(6.0).reshape(2, 3)}
        encoders = [
            Encoder(update, clip=1.0, max_weight=10),
            Encoder(update, clip=math.nextafter(1.0, 2.0), max_weight=11),
            Encoder(update, clip=1.0, bits=12, clips={"a": 3.0}),
            Encoder(update, clip=1.0, exact={"a": Exact(0, 9)}),
        ]
        single = {"a": update["a"].astype(np.float32)}
        assert len({encoder.input_digest(given) for encoder in encoders for given in (update, single)}) == 1


class TestLayoutPolicy:
    LAYOUT: ClassVar[dict[str, Any]] = {"clip": 1.0, "bits": 16, "max_weight": 100, "weighted_by": "num-examples"}

    def test_allows_by_default_what_encoders_take(self) -> None:
        LayoutPolicy().check(**self.LAYOUT)
        LayoutPolicy().check(clip=1e-100, bits=2, max_weight=None)
        LayoutPolicy().check(clip=None, bits=2, max_weight=None, array_bits=[32], exact=[Exact(0, 1), Exact(-9, 9, 15)])
        LayoutPolicy().check(clip=1e100, bits=32, max_weight=2**53, clips=[5.0, 1e-9])

    @pytest.mark.parametrize(
        ("policy", "changes", "message"),
        [
            ({"max_clip": 0.5}, {}, "has clip 1.0; this client's policy allows 1e-100 to 0.5"),
            ({"min_clip": 2.0}, {}, "has clip 1.0"),
            ({"max_clip": 1.0}, {"clips": [0.1, 3.0]}, "has clip 3.0"),
            ({}, {"clip": math.nan}, "has clip nan"),
            ({"min_bits": 17}, {}, "has bits 16"),
            ({"max_bits": 8}, {}, "has bits 16"),
            ({"min_max_weight": 101}, {}, "has max_weight 100"),
            ({"max_max_weight": 99}, {}, "has max_weight 100"),
            ({}, {"weighted_by": "loss"}, "weights updates by 'loss'; this client's policy allows num-examples"),
            ({}, {"difference": False}, "asks for the whole model"),
        ],
    )
    def test_names_what_it_refuses(self, policy: dict[str, Any], changes: dict[str, Any], message: str) -> None:
        with pytest.raises(PeerError) as refused:
            LayoutPolicy(**policy).check(**{**self.LAYOUT, **changes})
        assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY
        assert message in str(refused.value)

    def test_what_it_may_allow(self) -> None:
        LayoutPolicy(weighted_by=frozenset({"loss"})).check(**{**self.LAYOUT, "weighted_by": "loss"})
        LayoutPolicy(whole_model=True).check(**self.LAYOUT, difference=False)

    def test_bounds_that_allow_nothing(self) -> None:
        with pytest.raises(ParameterError, match="bits from 9 to 8"):
            LayoutPolicy(min_bits=9, max_bits=8)


def test_released_inputs_are_remembered() -> None:
    released = ReleasedInputs()
    assert b"a" not in released
    released.add(b"a")
    released.add(b"a")
    assert b"a" in released
    assert len(released) == 1
    assert repr(released) == "<ReleasedInputs: 1 of them>"
