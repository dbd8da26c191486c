"""The page of a run: self-contained, escaped, complete, and valid without its optional parts."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rlgen.core.stats import Estimate, SuccessRate
from rlgen.report.pages import FigureFile, is_page
from rlgen.report.quality_plots import SourceQuality
from rlgen.report.run_page import (
    Assets,
    Clip,
    Dataset,
    InitialStates,
    ReportData,
    StageTime,
    changes,
    render_report,
    verdict,
)
from rlgen.report.video import write_gif

EMPTY_TAGS = {"meta", "img", "br", "link", "hr", "input"}
HOSTILE = """<script>alert("1")</script> & "quoted" 'single' {{ 7 * 7 }}"""


class Page(HTMLParser):
    """Tags, addresses and text of a page; counts tags that do not close as they opened."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.addresses, self.text, self.crossed = [], [], [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def full(tmp_path, word="plain"):
    figure, clip = tmp_path / "success.png", tmp_path / "a.gif"
    Image.new("RGB", (30, 20), "white").save(figure)
    write_gif(clip, np.zeros((4, 16, 16, 3), np.uint8), caption="x", success=True, size=32)
    return ReportData(
        title=f"Title {word}",
        task=f"libero_object/{word}",
        prompt=f"prompt {word}",
        created=f"day {word}",
        command=f"rlgen {word}",
        rates={
            "demonstrator": SuccessRate(61, 64),
            "bc": SuccessRate(22, 50),
            "ppo": SuccessRate(48, 50),
            word: None,
        },
        assets=Assets(True, f"from {word}"),
        initial_states=InitialStates(f"train {word}", f"held {word}"),
        stages=[
            StageTime("demos", f"what {word}", 73.0, f"note {word}"),
            StageTime("ppo", "x", 727),
            StageTime("vla-train", "x", None),
        ],
        figures=[
            FigureFile(figure, f"figure {word}", f"caption {word}", section)
            for section in ("success", "training", "data")
        ],
        clips=[Clip("ppo", clip, f"clip {word}", True), Clip("vla", None)],
        quality={"ppo": SourceQuality(53, 4337, Estimate(86.7, 85.1, 88.4), Estimate(12.1, 11.6, 12.6), 19)},
        changes=changes(
            {
                "success": {"before": 0.9, "after": 1.0, "difference": 0.1, "low": 0.02, "high": 0.2, "trials": 50},
                "length": {"before": 66.8, "after": 55.4, "difference": -11.4, "low": -13, "high": -9.8, "trials": 45},
                "noops": dict.fromkeys(("before", "after", "difference", "low", "high")) | {"trials": 0},
            }
        ),
        dataset=Dataset(f"runs/{word}", 53, 4337, "128 x 128", f"renderer {word}", 14_300_000),
        versions={"jax": "0.10.2", word: word},
        machine={"CPU": word, "cores": 2},
        config={"ppo": {"clip_eps": 0.0125, word: [1, 2]}, "empty": {}},
        notes=[f"remark {word}"],
    )


def rendered(data, tmp_path):
    path = tmp_path / "report.html"
    render_report(data, path)
    return path.read_text(encoding="utf-8")


def test_every_result_appears(tmp_path):
    words = Page(rendered(full(tmp_path), tmp_path)).words
    for expected in [
        "61 of 64", "95 %", "22 of 50", "44 %", "31 % to 58 %", "48 of 50", "96 %", "87 % to 99 %",
        "52 points above BC", "1 min 13 s", "86.7 (85.1 to 88.4)", "12.1 (11.6 to 12.6)", "19 of 4337",
        "53 episodes, 4337 steps, 14 MB", "128 x 128", "0.10.2", "ppo.clip_eps", "0.0125", "[1, 2]",
        "66.8 55.4 -11.4 (-13.0 to -9.80) 45", "0.900 1.00 0.100 (0.0200 to 0.200) 50",
        "held plain", "train plain", "note plain", "remark plain", "caption plain", "rlgen plain",
        "renderer plain", "13 min 20 s in all",
    ]:  # fmt: skip
        assert expected in words, expected


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    source = rendered(full(tmp_path), tmp_path)
    page = Page(source)
    assert len(page.addresses) == 4
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe", "base", "object"} & set(page.tags)
    assert "url(" not in source and "@import" not in source


def test_every_image_decodes(tmp_path):
    formats = []
    for address in Page(rendered(full(tmp_path), tmp_path)).addresses:
        kind, data = address.removeprefix("data:").split(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            formats.append(f"image/{image.format.lower()}")
            assert formats[-1] == kind
    assert sorted(formats) == ["image/gif", *["image/png"] * 3]


def test_text_from_outside_is_escaped_everywhere(tmp_path):
    source = rendered(full(tmp_path, HOSTILE), tmp_path)
    page = Page(source)
    assert "<script" not in source
    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 20
    assert not page.crossed and not page.open


@pytest.mark.parametrize("word", ["plain", HOSTILE])
def test_tags_close_in_order(tmp_path, word):
    page = Page(rendered(full(tmp_path, word), tmp_path))
    assert page.crossed == [] and page.open == []
    assert page.tags.count("h1") == 1


def test_placeholder_assets_are_named_as_what_they_are(tmp_path):
    data = full(tmp_path)
    words = Page(rendered(data, tmp_path)).words
    # In a sentence of its own, said once.
    assert "Built-in placeholders, not the benchmark" in words and data.assets.detail not in words
    own = ReportData("t", "x/y", "p", assets=Assets(False, "from the hub"))
    words = Page(rendered(own, tmp_path)).words
    assert "Built-in placeholders" not in words
    assert "own object models. from the hub" in words


def test_a_page_of_almost_nothing_says_not_run(tmp_path):
    page = Page(rendered(ReportData("t", "x/y", "p"), tmp_path))
    assert page.words.count("not run") == 4
    assert page.crossed == [] and page.open == []


@pytest.mark.parametrize(
    "field",
    ["assets", "initial_states", "stages", "figures", "clips", "quality", "dataset", "versions", "config"],
)
def test_each_part_may_be_absent(tmp_path, field):
    default = ReportData.__dataclass_fields__[field]
    data = full(tmp_path)
    empty = default.default_factory() if callable(default.default_factory) else default.default
    object.__setattr__(data, field, empty)
    page = Page(rendered(data, tmp_path))
    assert page.crossed == [] and page.open == []
    assert "52 points" in page.words


def test_an_image_that_is_absent_is_not_run(tmp_path):
    data = full(tmp_path)
    (tmp_path / "success.png").unlink()
    (tmp_path / "a.gif").unlink()
    page = Page(rendered(data, tmp_path))
    assert page.addresses == []
    assert page.words.count("not run") == 7  # one actor, one stage, two clips, three figures


def test_the_verdict_follows_the_rates():
    bc, ppo = SuccessRate(30, 50), SuccessRate(20, 50)
    assert "20 points below BC" in verdict({"bc": bc, "ppo": ppo})
    assert "PPO was not run" in verdict({"bc": bc, "ppo": None})
    assert "BC was not run" in verdict({"ppo": ppo})
    assert "27 of 50" in verdict({"bc": bc, "ppo": ppo, "vla": SuccessRate(27, 50)})
    assert verdict({}) == ""


def test_the_verdict_says_what_else_changed_where_it_is_known_to_have():
    value = {"before": 115.0, "after": 105.0, "difference": -10.0, "low": -11.0, "high": -9.0, "trials": 50}
    jerk = {"before": 126.0, "after": 67.0, "difference": -59.0, "low": -70.0, "high": -48.0, "trials": 50}
    rates = {"bc": SuccessRate(50, 50), "ppo": SuccessRate(50, 50)}
    text = verdict(rates, changes({"length": value, "mean_squared_jerk": jerk, "noops": value}))
    assert "the same as BC" in text and text.endswith("its episodes are 9 % shorter and 47 % less jerky.")
    text = verdict(rates, changes({"length": {**value, "difference": 10.0, "low": 9.0, "high": 11.0}}))
    assert text.endswith("its episodes are 9 % longer.")
    assert "episodes are" not in verdict(rates, changes({"length": {**value, "high": 1.0}}))


def test_a_failure_leaves_the_old_page(tmp_path):
    data = full(tmp_path)
    before = rendered(data, tmp_path)
    object.__setattr__(data, "stages", [object()])
    with pytest.raises(Exception, match="has no attribute"):
        render_report(data, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob(".report*"))


def test_our_pages_are_recognized_and_those_of_others_are_not(tmp_path):
    rendered(ReportData(title="t", task="t", prompt="p", created="c"), tmp_path)
    assert is_page(tmp_path / "report.html")
    for text in ("", "<!DOCTYPE html>\n<html lang='en'><title>mine</title>", "PK\x03\x04"):
        (tmp_path / "other.html").write_text(text)
        assert not is_page(tmp_path / "other.html")
    assert not is_page(tmp_path) and not is_page(tmp_path / "absent.html")
