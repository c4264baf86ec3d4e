"""What the pages say of the refinement."""

from __future__ import annotations

from typing import Any

from quantize.report.pages import render_html, render_markdown
from tests.quantize.report.test_pages import TAME, Page, report


def test_what_each_pass_of_the_refinement_was_worth(make_verification: Any) -> None:
    made = report(make_verification(), TAME)
    assert "Refinement" not in Page(render_html(made)).words
    before, after = ({"kl_nats": kl, "agreement_fraction": a} for kl, a in ((0.0377, 0.94), (0.0048, 0.96)))
    made["tuning"]["refinement"] = {
        "calibration_images": 100,
        "selection_images": 50,
        "before": before,
        "after": after,
        "passes": [
            {
                "name": "weights",
                "status": "applied",
                "what": "53 | rounded <anew>",
                "before": before,
                "after": after,
            },
            {"name": "layout", "status": "skipped", "what": "no image", "before": after, "after": after},
        ],
    }
    words = Page(render_html(made)).words
    assert "weights applied: 53 | rounded <anew>0.03770.004894.0 %96.0 %" in words
    assert "layout skipped: no image all of it0.03770.0048" in words
    text = render_markdown(made)
    (row,) = (line for line in text.splitlines() if line.startswith("| weights"))
    assert row.endswith("| 0.0377 | 0.0048 | 94.0 % | 96.0 % |")
    assert "\n| layout | skipped: no image | | | | |\n| all of it |" in text
