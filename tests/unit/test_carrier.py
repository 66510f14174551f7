"""What a config and a policy say of the carrier of the vectors."""

from __future__ import annotations

from typing import Any

import pytest

from secagg import ErrorCode, ParameterError, PeerError, Policy, RoundConfig
from secagg.arithmetic import Modulus
from secagg.envelopes.parameters import find
from secagg.pairwise import messages
from secagg.pairwise.carrier import Carrier
from secagg.pairwise.messages import MaskedInput
from secagg.simulation import carriers, cheaper_carrier
from secagg.simulation.carriers import with_carrier
from tests.support import wire


def enveloped(**options: Any) -> RoundConfig:
    return RoundConfig.for_cohort(12, 500, **{"version": 2, "carrier": "lattice", "gamma": 0, "delta": 0.2, **options})


def test_masks_carry_a_vector_unless_the_config_says_otherwise() -> None:
    config = enveloped(carrier="masks")
    assert config == RoundConfig.for_cohort(12, 500, version=2, gamma=0, delta=0.2)
    assert (config.carrier, config.envelope) == (Carrier.MASKS, None)
    assert (config.masked_length, config.masked_modulus) == (500, config.modulus)
    assert config.masked_input_bytes == config.modulus.packed_bytes(500)


def test_a_carrier_is_in_the_config_and_its_digest() -> None:
    config, masks = enveloped(), enveloped(carrier="masks")
    assert wire.read(config.to_bytes()) == [*wire.read(masks.to_bytes())[:-1], [6, 1]]
    assert RoundConfig.from_bytes(config.to_bytes()) == config
    assert config.digest != masks.digest
    for number, told in ((2, "carrier 2; this library knows 0, 1"), (0, "the default is not written")):
        with pytest.raises(ParameterError, match=told.replace("carrier 2;", "carrier 2:")):
            RoundConfig.from_bytes(wire.write([*wire.read(config.to_bytes())[:-1], [6, number]]))


def test_parameters_follow_from_the_config() -> None:
    config = enveloped(input_max=1000)
    assert config.envelope == find(12, 500, (12 * 1000).bit_length())
    assert (config.masked_length, config.masked_modulus) == (4096, Modulus.ring(10))
    assert config.masked_input_bytes == 4096 * 10 // 8 + find(12, 500, 14).envelope_bytes
    assert messages.max_bytes(config, MaskedInput) == 64 + config.masked_input_bytes


def test_with_groups_a_sum_is_over_the_largest_group() -> None:
    config = enveloped(input_max=1000, groups=3, delta=0.0)
    assert config.envelope == find(4, 500, 12)


def test_modulo_the_modulus_a_sum_is_taken_over_the_integers_first() -> None:
    assert enveloped(modulus=2**16).envelope == find(12, 500, (12 * (2**16 - 1)).bit_length())


def test_what_no_envelope_holds_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"sums of 68 bits: an envelope's elements have 1 to 64; choose a smaller"):
        enveloped(modulus=2**64)
    with pytest.raises(ParameterError, match=r"carrier = lattice: version 1 of the wire .* ask for version = 2"):
        enveloped(version=1)
    with pytest.raises(ParameterError, match="carrier 'envelope': must be one of masks, lattice"):
        enveloped(carrier="envelope")


def test_a_policy_takes_masks_unless_told_otherwise() -> None:
    config, masks = enveloped(), enveloped(carrier="masks")
    for policy in (Policy(), Policy(carrier="masks"), Policy(carrier=Carrier.MASKS)):
        policy.check(masks)
        with pytest.raises(PeerError, match=r"carrier = lattice; .*masks") as refused:
            policy.check(config)
        assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY
    Policy(carrier="lattice").check(config)
    with pytest.raises(PeerError, match=r"carrier = masks; .*lattice"):
        Policy(carrier="lattice").check(masks)
    for config_ in (config, masks):
        Policy(carrier="any").check(config_)
    for wrong in ("none", "auto"):
        with pytest.raises(ParameterError, match=f"carrier '{wrong}': must be one of masks, lattice, any"):
            Policy(carrier=wrong)


def test_a_config_explains_its_envelope() -> None:
    text = enveloped(input_max=1000).explain()
    assert "The envelope's ring has degree 4,096" in text
    assert "Envelopes rest on the hardness of Ring-LWE" in text


def test_the_cheaper_carrier_is_that_of_the_smaller_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    config = enveloped(input_max=1000)
    found = {one: carriers.costs_of(config.replace(carrier=one)) for one in Carrier}
    assert found[Carrier.LATTICE].upload_bytes == config.masked_input_bytes
    for one in Carrier:
        assert 0 < found[one].client_s < 1
        assert 0 < found[one].server_s < 1
    for cheaper in Carrier:
        costs = {
            one: carriers.CarrierCosts(client_s=2.0 - (one is cheaper), server_s=7, upload_bytes=9) for one in Carrier
        }
        monkeypatch.setattr(carriers, "costs_of", lambda given, costs=costs: costs[given.carrier])
        for given in Carrier:
            assert cheaper_carrier(config.replace(carrier=given)) == config.replace(carrier=cheaper)


def test_a_config_gets_the_carrier_that_is_asked_for() -> None:
    config = enveloped(version=1, carrier="masks")
    assert with_carrier(config, "masks") == config
    for choice in ("lattice", Carrier.LATTICE):
        assert with_carrier(config, choice) == enveloped()
        assert with_carrier(enveloped(groups=2, delta=0), choice) == enveloped(groups=2, delta=0)
    assert with_carrier(enveloped(), "masks").carrier is Carrier.MASKS
    with pytest.raises(ParameterError, match="carrier 'any': must be one of masks, lattice, auto"):
        with_carrier(config, "any")


def test_masks_are_taken_where_no_envelope_holds_the_sums() -> None:
    config = enveloped(carrier="masks", modulus=2**64)
    assert cheaper_carrier(config) == config
    with pytest.raises(ParameterError, match="a config of version 1: it has masks alone; ask for version = 2"):
        cheaper_carrier(config.replace(version=1))
    assert with_carrier(config.replace(version=1), "auto") == config.replace(version=1)
    with pytest.raises(ParameterError, match=r"sums of 68 bits"):
        with_carrier(config.replace(version=1), "lattice")
    with pytest.raises(ParameterError, match=r"carrier 'auto': .* secagg.simulation.cheaper_carrier\(config\)"):
        enveloped(carrier="auto")
