"""The page: self-contained, whole, in both themes, honest about what is missing."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from labctl import load_protocol, open_rig
from labctl import run as run_protocol
from labctl.devices import DataError, Outcome, RunLogError
from labctl.reports import report, summary
from labctl.runlog import PanelPlan, RunPlan, RunReader, RunWriter, ScanPlan, StepRecord

VOID = {"meta", "link", "img", "source", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags balanced, visible text, and every address the page mentions."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.images = 0
        self.path = path
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.images += tag == "img"
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "srcset", "href", "action")
        ]
        if tag == "img":
            assert dict(attrs)["alt"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def moons_page(moons_run: Path, tmp_path_factory) -> Page:
    folder = tmp_path_factory.mktemp("report")
    path = report(moons_run, folder / "out")
    assert path == folder / "out" / "report.html"
    return Page(path)


@pytest.fixture(scope="module")
def moons_folder(moons_page: Page) -> Path:
    return moons_page.path.parent


def test_the_page_asks_for_nothing_outside_itself(moons_page: Page) -> None:
    assert moons_page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in moons_page.addresses)
    assert "<script" not in moons_page.html
    assert "url(" not in moons_page.html
    assert "@import" not in moons_page.html


def test_every_picture_is_there_in_both_themes_and_as_a_file(moons_page: Page, moons_folder: Path) -> None:
    page = moons_page
    names = {"samples", "chain", "settling", "residuals", "weights"}
    assert {path.stem for path in moons_folder.glob("*.png")} == names
    assert page.images == len(names)
    assert len(page.addresses) == 2 * len(names)
    papers = set()
    for address in page.addresses:
        picture = imread(io.BytesIO(base64.b64decode(address.split(",")[1])), format="png")
        assert picture.shape[1] > 600
        assert picture.std() > 0.02  # something is drawn
        papers.add(round(float(picture[0, 0, :3].mean()), 1))
    assert papers == {1.0, 0.1}
    assert "prefers-color-scheme: dark" in page.html


def test_the_page_says_what_happened(moons_page: Page, moons_run: Path) -> None:
    text = moons_page.text
    assert "Two moons on the simulated optical computer" in text
    assert "300 samples, 5 steps, on a simulated rig (optical-twin)." in text
    assert "success The run reached its end." in text
    assert "Every device in this run is simulated" in text
    with RunReader(moons_run) as run:
        counts = run.panel().outcome_counts
        step_one = counts[0, Outcome.CONVERGED]
        assert re.search(rf"\b1 implicit {step_one} {step_one / 300:.1%}", text)
    assert "MAX_TIME: still moving when the window closed" in text
    assert "DIVERGED" not in text  # outcomes that never happened are left out
    assert "waits 8.5 µs (dashed)" in text
    assert "4 (sign and 3 bits of magnitude), one scale for each output row" in text
    assert "621 of 2,304" in text
    assert "energy distance +0.31e-3 to fresh data; 0 is the same distribution" in text
    assert "loop.bias: asked 4.1, applied 3.8 network units (3x)" in text
    assert 'scheme = "implicit midpoint"' in text
    assert "T-0002" in text


def test_modelled_and_measured_times_stand_apart(moons_page: Page) -> None:
    modelled, _, rest = moons_page.text.partition("Time of this computer (measured)")
    assert "Time of the machine, by its time profile (modelled)" in modelled
    assert "by its own clock" not in moons_page.text
    # 300 samples: 4 x 12 us + 16.7 ms upload, 5 x 300 x (8.5 + 6.4 + 0.4) us
    assert "39.7 ms 132 µs" in modelled
    assert "it says nothing about the machine itself" in rest


def test_a_failed_run_says_so_and_shows_the_last_iterate(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(50, 4)
    reason = 'panel: show: no answer\n<script>alert("x")</script>'

    def broken() -> None:
        with RunWriter.create(tmp_path / "a", synthetic.header(50), RunPlan([plan])) as run:
            run.step(synthetic.step(0, plan))
            raise OSError(reason)

    with pytest.raises(OSError, match="no answer"):
        broken()
    page = Page(report(tmp_path / "a"))
    assert (tmp_path / "a_report" / "report.html").exists()
    assert "<script" not in page.html
    assert "OSError: panel: show: no answer" in page.text
    assert "1 of 4 steps" in page.text
    assert "The chain was not finished" in page.text


@pytest.mark.slow
def test_a_run_that_is_still_going(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 3)
    with RunWriter.create(tmp_path / "a", synthetic.header(20), RunPlan([plan])) as run:
        empty = Page(report(run.part_path, tmp_path / "none"))
        run.step(synthetic.step(0, plan))
        page = Page(report(run.part_path, tmp_path / "one"))
        run.abort()
    assert "0 of 3 steps" in empty.text
    assert "running The run is still going" in page.text


def test_a_bare_run_without_machine_settling_or_data(tmp_path: Path, synthetic) -> None:
    rng = np.random.default_rng(0)
    plan = PanelPlan(n_steps=2, n_samples=40, d=1, n_channels=48)
    header = synthetic.header(40, d=1, timing=None, devices=(), network={}, operator=None, command=())
    with RunWriter.create(tmp_path / "a", header, RunPlan([plan])) as run:
        for sigma in (1.0, 0.5):
            run.step(StepRecord(sigma=sigma, sigma_next=sigma / 2, x=rng.normal(size=(40, 1))))
        run.finish(rng.normal(size=(40, 1)))
    page = Page(report(tmp_path / "a", tmp_path / "out"))
    assert "Did the machine settle" not in page.text
    assert "What became of the samples" not in page.text
    assert "(modelled)" not in page.text
    assert page.images == 2


def test_pictures_take_the_place_of_points(tmp_path: Path, synthetic) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, size=(30, 28, 28), dtype=np.uint8)
    labels = np.arange(30) % 10
    plan = synthetic.plan(
        30,
        2,
        d=12,
        pictures=(30, 28, 28),
        step_pictures=(2, 3, 28, 28),
        reference_pictures=real,
        reference_labels=labels,
        labels=labels,
    )
    names = ["T-shirt/top", "Trouser", *"cdefghij"]
    header = synthetic.header(30, d=12, n_classes=10, network={"class_names": names})
    judged = np.where(np.arange(30) % 10 == 1, 0, labels)  # every pair of trousers is taken for a shirt
    judged[0] = 3
    with RunWriter.create(tmp_path / "g", header, RunPlan([plan])) as run:
        for index in range(2):
            run.step(synthetic.step(index, plan))
        run.finish(
            rng.normal(size=(30, 12)),
            {"class_agreement": 26 / 30, "frechet_star": 0.05},
            pictures=255 - real,
            step_pictures=real[:6].reshape(2, 3, 28, 28),
            judged=judged,
        )
    page = Page(report(tmp_path / "g", tmp_path / "out"))
    assert "pictures decoded from samples of this run" in page.text
    assert (tmp_path / "out" / "pictures.png").exists()
    assert (tmp_path / "out" / "steps.png").exists()
    assert "the clean picture that the network takes the noisy state for" in page.text
    assert not (tmp_path / "out" / "samples.png").exists()
    assert "class agreement 86.7% of the pictures are of the class asked for" in page.text
    assert "in our classifier's features, not FID" in page.text
    assert "Worst: Trouser (0% right; 100% taken for T-shirt/top) and T-shirt/top (66.7% right" in page.text
    assert "Trouser 3 0% T-shirt/top 100% c 3 100%" in page.text
    with RunReader(tmp_path / "g") as run:
        np.testing.assert_array_equal(run.panel().judged, judged)
        (classes,) = (panel["classes"] for panel in summary(run)["panels"])
    assert classes[1] == {
        "name": "Trouser",
        "pictures": 3,
        "agreement": 0.0,
        "mistaken_for": {"T-shirt/top": 1.0},
    }


def test_a_scan_shows_its_table_first(tmp_path: Path, synthetic) -> None:
    plans = [synthetic.plan(20, 2, name=f"bits_{b}", title=f"{b} bits", settings={"bits": b}) for b in (2, 4)]
    scan = ScanPlan({"bits": "", "settle": "us"}, axis="bits", signal="settle")
    with RunWriter.create(tmp_path / "s", synthetic.header(20), RunPlan(plans, scan=scan)) as run:
        for plan in plans:
            for index in range(2):
                run.panel(plan.name).step(synthetic.step(index, plan))
            run.panel(plan.name).finish(synthetic.step(1, plan).x)
            run.scan_row({"bits": plan.settings["bits"], "settle": 5.25})
        run.finish()
    page = Page(report(tmp_path / "s", tmp_path / "out"))
    text = page.text
    assert text.index("The scan") < text.index("2 bits bits 2") < text.index("4 bits bits 4")
    assert "bits settle (µs) 2 5.25 4 5.25" in text
    assert "A scan of 2 chains" in text
    assert {path.name for path in (tmp_path / "out").glob("*.png")} >= {
        "scan.png",
        "bits_2_samples.png",
        "bits_2_settling.png",
        "bits_4_samples.png",
        "bits_4_settling.png",
    }


@pytest.mark.slow
def test_a_tour_shows_every_result_before_the_details(tmp_path: Path, synthetic) -> None:
    plans = [synthetic.plan(20, 1, name=name, title=name, program=None) for name in ("moons", "rolls")]
    with RunWriter.create(tmp_path / "t", synthetic.header(40), RunPlan(plans, default="rolls")) as run:
        for plan in plans:
            run.panel(plan.name).step(synthetic.step(0, plan))
            run.panel(plan.name).finish(synthetic.step(0, plan).x)
        run.finish()
    text = Page(report(tmp_path / "t", tmp_path / "out")).text
    assert text.index("What came out") < text.index("rolls") < text.index("Chain by chain")
    assert "2 chains in one run." in text


def test_a_report_that_cannot_be_written_or_read(moons_run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunLogError, match="the report cannot be written"):
        report(moons_run, tmp_path / "taken")
    with pytest.raises(RunLogError, match="not an HDF5 file"):
        report(tmp_path / "taken", tmp_path / "out")


def test_a_board_s_run_shows_its_couplings_and_its_segments(synthetic, tmp_path: Path) -> None:
    run = synthetic.write_oscillators(tmp_path / "board")
    page = Page(report(run, tmp_path / "page"))
    assert "The program on the board" in page.text
    assert "64, 64 of them read" in page.text
    assert "1,092 directed ones a segment, 4 bits" in page.text
    assert "at the end of each segment" in page.text
    assert "nan" not in page.text
    assert "σ" not in page.text
    for name in ("couplings", "pictures", "steps"):
        assert imread(tmp_path / "page" / f"{name}.png").std() > 0.05
    assert "no controls stand beside" in page.text.lower()


@pytest.mark.slow
def test_what_stands_beside_a_board_s_pictures_is_on_its_page(tmp_path: Path) -> None:
    """A short run with more segments than are drawn, without real pictures."""
    settings = {"model": "digits8_segments", "segments": 8, "samples": 12}
    with open_rig("oscillator-ideal") as rig:
        made = run_protocol(load_protocol("generate_digits", settings), rig, out=tmp_path)
    page = Page(report(made.file, tmp_path / "page"))
    assert "perceptron, as many parameters 0.051 0.65 86.3%" in page.text
    assert "k-means, 100 centres 0.063 1.54 72.1%" in page.text
    assert "Drawn are the first 4 of 8 segments" in page.text
    assert imread(tmp_path / "page" / "controls.png").std() > 0.05
    with RunReader(made.file) as log:
        assert [one.name for one in log.panel().controls][:2] == ["perceptron", "frozen"]
        (panel,) = summary(log)["panels"]
        assert panel["controls"][4]["what"] == "k-means, 100 centres"


@pytest.mark.slow
def test_a_page_without_the_data_set_says_that_real_pictures_are_missing(tmp_path: Path, mocker) -> None:
    mocker.patch("labctl.procedures.board_program.picture_data", side_effect=DataError("not here"))
    with open_rig("oscillator-ideal") as rig:
        made = run_protocol(load_protocol("generate_digits", {"samples": 12}), rig, out=tmp_path)
    text = Page(report(made.file, tmp_path / "page")).text
    assert "Real ones stand beside them where the data set is at hand: it was not here" in text
    assert "Left, real pictures" not in text
