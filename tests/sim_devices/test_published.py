"""The published machines: our forward map against their own twin's numbers, and what the importer refuses.

The parameter files are not in this repository. They are looked for in the folder that the environment
variable LABCTL_AOC_DATA names, then in shared/data/aoc beside (or above) the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.number_file import read_numbers
from labctl_sim_devices.profile_import import import_profile
from labctl_sim_devices.published import VOLTS_PER_UNIT, read_published

from labctl.devices import ConfigError, DataError
from labctl.rig import load_rig, open_rig

FILES = {48: "April2025_corrected_pd_3.yaml", 16: "June2024_saturation_pieces_clip2p6.yaml"}
HERE = Path(__file__).parent
BETA = 500.0


def published_file(n):
    places = [Path(os.environ["LABCTL_AOC_DATA"])] if "LABCTL_AOC_DATA" in os.environ else []
    places += [above / "shared" / "data" / "aoc" for above in HERE.parents]
    for place in places:
        if (place / FILES[n]).is_file():
            return place / FILES[n]
    pytest.skip(f"{FILES[n]} is not here; set LABCTL_AOC_DATA to the folder that has the published files")


def case(n):
    """Weights [out, in], states and inputs (volts) by the rule in the reference file."""
    i, b = np.arange(n), np.arange(3)[:, None]
    weights = np.sin(1 + 0.7 * i[:, None] + 1.3 * i + 0.1 * i[:, None] * i).T
    weights /= np.abs(weights).max()
    return weights, 0.6 * np.sin(0.5 + b + 0.9 * i), 1.6 * np.cos(0.3 + 2 * b + 1.1 * i)


def planes(weights):
    return np.stack([np.maximum(weights, 0), np.maximum(-weights, 0)])


def t(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("splitter", [False, True])
@pytest.mark.parametrize("n", [48, 16])
def test_the_forward_map_is_the_published_twins(n, splitter):
    """Element by element, both sign paths, then the whole closed-loop step."""
    machine = read_published(published_file(n))
    reference = json.loads((HERE / "published_reference.json").read_text())["cases"]
    wanted = reference[f"{n} splitter" if splitter else str(n)]
    weights, volts, inputs = case(n)
    law = machine.law(planes(weights), splitter=splitter)
    z = t(volts / VOLTS_PER_UNIT)
    seen = law.photocurrents(law.phi(z)).numpy() * machine.light_volts * BETA / n
    assert np.abs(wanted["after_product"]).max() > 2
    np.testing.assert_allclose(seen, wanted["after_product"], atol=1e-5, rtol=0)
    gain, leak = t(np.full(n, machine.gain(BETA))), t(np.full(n, 0.5))
    step = law.next_state(z, gain, leak, t(inputs / VOLTS_PER_UNIT), t(np.zeros(n))).numpy()
    np.testing.assert_allclose(step * VOLTS_PER_UNIT, wanted["next_state"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [48, 16])
def test_the_imported_bench_has_that_forward_map(n, tmp_path):
    """Imported, shown on a fine panel, probed through the devices: the same, resting current apart."""
    imported = import_profile(published_file(n), tmp_path / "machine.toml")
    quiet = {"panel_levels": 65536, "probe_dac_bits": 40, "offset_dac_bits": 48, "panel_tau_us": 0.0}
    bench = OpticalBench(load_profile(imported.profile, {**quiet, "precision": "float64"}), noise_scale=0.0)
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    panel.open()
    electronics.open()
    weights, volts, _ = case(n)
    machine = read_published(published_file(n))
    show(panel, bench.profile, weights)
    law = machine.law(planes(weights))
    z = volts / VOLTS_PER_UNIT
    drive = law.phi(t(z)).numpy()
    expected = (law.difference(t(drive)) - law.difference(t(np.zeros((1, n))))).numpy()
    unit = electronics.spec.probe_dac.units_per_code
    codes = np.rint(np.vstack([drive, np.zeros((1, n))]) / unit).astype(np.int64)
    counts = electronics.probe(codes).counts * electronics.spec.offset_dac.units_per_code
    np.testing.assert_allclose(counts[:-1] - counts[-1], expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(bench.truth().response(z), expected, atol=1e-4 * np.abs(expected).max())


def show(panel, profile, weights):
    levels = np.zeros(profile.panel_shape_px, np.uint16)
    height, width = profile.cell_px
    for plane, (top, left) in zip(planes(weights), profile.path_origin_px, strict=True):
        angle = np.arcsin(np.sqrt(plane)) / (np.pi / 2)
        cells = np.rint(angle * (profile.panel_levels - 1)).astype(np.uint16)
        area = cells.repeat(height, 0).repeat(width, 1)
        levels[top : top + len(area), left : left + area.shape[1]] = area
    panel.show(levels)


@pytest.mark.parametrize("n", [48, 16])
def test_what_an_import_writes_is_a_rig_that_opens(n, tmp_path):
    imported = import_profile(published_file(n), tmp_path / "machine.toml")
    assert (imported.n_channels, imported.dead_channels) == (n, (8,) if n == 48 else ())
    rig = load_rig(imported.rig)
    assert rig.n_channels == n
    with open_rig(rig) as opened:
        assert opened.loop_spec.n_channels == n
    with pytest.raises(ConfigError, match=r"machine\.toml exists already"):
        import_profile(published_file(n), tmp_path / "machine.toml")


def test_magnitudes_of_the_48_channel_machine():
    """adm.md 2.1, values of the file."""
    machine = read_published(published_file(48))
    a, _, c, d, _, g = machine.curve[0]
    assert a * d + g == pytest.approx(1.0)  # the unit of drive is one unit of state at the working point
    assert c == pytest.approx(4.265, abs=1e-3)
    assert machine.bias_limit_units == pytest.approx(3.8, abs=0.03)
    np.testing.assert_allclose(machine.weight_response.sum(axis=2).mean(axis=1), [0.77, 0.74], atol=0.01)
    np.testing.assert_allclose(machine.weight_response[..., 2].mean(axis=1), [0.045, 0.053], atol=1e-3)
    assert machine.neighbour.max() == pytest.approx(0.306, abs=1e-3)
    assert (machine.input_efficiency[:, 8] == 0).all()
    assert machine.loop_scale.mean() == pytest.approx(0.73, abs=1e-2)
    assert machine.light_volts == pytest.approx(0.0559, abs=1e-4)


class TestRefusals:
    """One line that names file and key."""

    @pytest.fixture
    def spoilt(self, tmp_path):
        def make(*changes, n=48, cut=None):
            text = published_file(n).read_text()
            for old, new in changes:
                assert old in text
                text = text.replace(old, new, 1)
            path = tmp_path / "spoilt.yaml"
            path.write_text(text[:cut])
            return path

        return make

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("row_profiles:", "row_profile:", r"spoilt\.yaml: key row_profiles\.positive_row12 is missing"),
            ("led_poly_coeffs_neg:", "led:", r"key led_poly_coeffs_neg is missing"),
            ("  solution_to_adc_ratio:", "  ratio:", "key close_loop_offset_and_scale.solution_to_adc_ratio"),
            ("deq_input_min_max: [-1.3, 1.3]", "deq_input_min_max: [-1.3, 1.3, 2]",
             "deq_input_min_max has 3 numbers; allowed: 2"),
            ("deq_input_min_max: [-1.3, 1.3]", "deq_input_min_max: [-1.3, 1.2]",
             r"deq_input_min_max is \[-1.3, 1.2\]; allowed: -x, x"),
            ("deq_input_min_max: [-1.3, 1.3]", "deq_input_min_max: wide", "line .*'wide' is neither"),
            ("scaling: [0.7274037188321485, ", "scaling: [",
             "close_loop_offset_and_scale.scaling has 47 numbers; allowed: 48"),
        ],
    )  # fmt: skip
    def test_a_key_that_is_wrong(self, spoilt, old, new, message):
        with pytest.raises(DataError, match=message):
            read_published(spoilt((old, new)))

    @pytest.mark.parametrize("cut", [200, 5000, 15000, 27000, 28500])
    def test_a_truncated_file(self, spoilt, cut):
        with pytest.raises(DataError, match=r"spoilt\.yaml: (truncated|key .* is missing)"):
            read_published(spoilt(cut=cut))

    def test_another_machine(self, spoilt):
        with pytest.raises(
            DataError, match="has 16 numbers in a file with the 48-channel machine's splitter"
        ):
            read_published(spoilt(("poly_coeffs_positive_row12:", "others:"), n=16))

    @pytest.mark.parametrize(
        ("text", "message"),
        [("", "is empty"), ("a: [1, 2\n", "truncated: the list that begins on line 1"),
         ("a:\n", "truncated: a on line 1 has no value"), ("hello\n", "line 1: 'hello' is no 'key: numbers'"),
         ("a: 1\na: 2\n", "line 2: a stands twice")],
    )  # fmt: skip
    def test_what_is_no_parameter_file(self, tmp_path, text, message):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_published(path)
        with pytest.raises(DataError, match="cannot be read"):
            read_numbers(tmp_path / "none.yaml")

    def test_a_profile_for_a_rig_of_another_size(self, tmp_path):
        imported = import_profile(published_file(16), tmp_path / "small.toml")
        rig = tmp_path / "small-rig.toml"
        rig.write_text(rig.read_text().replace("n_channels = 16", "n_channels = 48"))
        with pytest.raises(ConfigError, match="n_channels is 48, its profile has 16"):
            open_rig(str(rig))
        assert imported.rig == rig
