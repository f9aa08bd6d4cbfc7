"""The page about DPO: its numbers against the training code, and its behaviour in a real browser."""

import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from reports.page.explain import BETAS, LOG_PROBS, explain_html
from reports.page.text import content_security_policy
from tests.reports.chromium import CHROMIUM, Page, browser
from trainers.loss.losses import PAIR_LOSSES, PairTerms
from trainers.rules.base import RuleBatch
from trainers.rules.catalogue import build

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
CONTROLS = (*LOG_PROBS, *BETAS)
DEFAULTS = {c.key: float(c.default) for c in CONTROLS}
RULES = ("fixed", "foodpo", "learnable")


def trained(state: dict[str, float]) -> dict[str, dict[str, float]]:
    """Beta, loss and gradients of one pair by the rules and the loss that train."""
    batch = RuleBatch(
        torch.tensor([math.log(state["ppl"])]), torch.tensor([True]), torch.zeros(1, 8), torch.tensor([0])
    )
    learnable: Any = build("learnable", {"pref_beta": state["beta"], "epsilon": state["eps"], "network": "linear"}, 8)
    learnable.initialise(torch.tensor([math.log(state["ppl0"])]))
    last = learnable.network[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.bias, state["nn"])
    rules = {
        "fixed": build("fixed", {"pref_beta": state["beta"]}, 8),
        "foodpo": build("foodpo", {"pref_beta": state["beta"], "pref_beta_scale": state["c"]}, 8),
        "learnable": learnable,
    }
    out = {}
    for name, rule in rules.items():
        value = torch.as_tensor(rule.beta(batch)).detach().reshape(1)
        beta = rule.clamp(value).double().requires_grad_()
        chosen, rejected = (
            torch.tensor([state[f"p{side}"] - state[f"r{side}"]], dtype=torch.float64, requires_grad=True)
            for side in "wl"
        )
        one = torch.ones(1)
        loss = PAIR_LOSSES["sigmoid"](PairTerms(chosen, rejected, chosen, rejected, one, one, beta))
        by_chosen, by_rejected, by_beta = torch.autograd.grad(loss.sum(), [chosen, rejected, beta])
        assert by_chosen.item() == -by_rejected.item()
        out[name] = {
            "beta": beta.item(),
            "loss": loss.item(),
            "gradient": by_chosen.item(),
            "weight": -by_chosen.item(),
            "beta_slope": by_beta.item(),
        }
    return out


def shown(page: Page) -> dict[str, float]:
    """Every number of the table, at full precision, by element id."""
    values = page.js(
        "Object.fromEntries([...document.querySelectorAll('[data-value]')].map(e => [e.id, e.dataset.value]))"
    )
    return {key: float(value) for key, value in values.items()}


def expect_trained(page: Page, state: dict[str, float]) -> None:
    """The table shows what the training code computes (whose rules work in float32)."""
    table = shown(page)
    assert table["r"] == pytest.approx((state["pw"] - state["pl"]) - (state["rw"] - state["rl"]), abs=1e-9)
    for rule, numbers in trained(state).items():
        for name, value in numbers.items():
            assert table[f"{rule}-{name}"] == pytest.approx(value, rel=1e-4, abs=1e-9), (rule, name)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("explain") / "deep" / "page.html"
    assert main(["explain", "--output", str(path)]) == 0
    return path.as_uri()


@pytest.fixture
def page(tab: Page, address: str) -> Iterator[Page]:
    """The page at its defaults, 1400 px wide, light; whatever a test does must raise no message in the console."""
    tab.size(1400)
    tab.media()
    tab.open(address)
    yield tab
    assert tab.problems == []
    assert {url.split("#")[0] for url in tab.requests} == {address}


def test_one_file_with_a_strict_policy() -> None:
    text = explain_html()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert text.count("<script") == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and policy[1].replace("&#39;", "'") == content_security_policy(script, style)
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")
    body = text.replace(script, "").replace(style, "")
    assert not re.search(r"\s(on\w+|style|src)=", body)
    assert all(link.startswith(("#", "https://arxiv.org/abs/")) for link in re.findall(r'href="([^"]*)"', body))


def test_command_names_the_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    for output, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "page.html", "name a file that can be written"),
    ):
        assert main(["explain", "--output", str(output)]) == 2
        assert words in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_command_needs_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli import main; main(['explain', '--output', sys.argv[1]]);"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'transformers') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", code, str(tmp_path / "a.html")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == explain_html()


@in_browser
def test_numbers_are_those_of_training(page: Page) -> None:
    draw = random.Random(0)
    states = [
        DEFAULTS,
        DEFAULTS | {"c": 0.0},
        DEFAULTS | {"ppl": 1.0},
        DEFAULTS | {"pw": -900.0},
        DEFAULTS | {"pl": -900.0},
    ]
    for _ in range(100):
        state = {c.key: draw.uniform(c.slider_low, c.slider_high) for c in CONTROLS}
        states.append(
            state
            | {c.key: math.exp(draw.uniform(math.log(c.slider_low), math.log(c.slider_high))) for c in BETAS if c.log}
        )
    results = page.js(f"{json.dumps(states)}.map(Dpo.compare)")
    bounds = set()
    for state, result in zip(states, results, strict=True):
        assert result["r"] == pytest.approx((state["pw"] - state["pl"]) - (state["rw"] - state["rl"]), abs=1e-9)
        for rule, numbers in trained(state).items():
            got = result["rules"][rule]
            assert {name: got[name] for name in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-9), (rule, state)
            assert got["probability"] == pytest.approx(1 / (1 + math.exp(-got["beta"] * result["r"])))
        bounds.add(re.sub(r".*(lower|upper).*", r"\1", result["rules"]["learnable"]["note"]))
    assert {"", "lower", "upper"} == bounds


@in_browser
def test_first_view_shows_the_defaults(page: Page) -> None:
    expect_trained(page, DEFAULTS)
    shown_as = {"#r": "5.000", "#fixed-loss": "0.4741", "#fixed-gradient": "−0.0378", "#remarks": ""}
    assert {selector: page.text(selector) for selector in shown_as} == shown_as
    assert "moved 5 nats towards the chosen answer" in page.text("#sentence")


@in_browser
def test_sliders_follow_the_keyboard(page: Page) -> None:
    state = dict(DEFAULTS)
    for control in CONTROLS:
        page.js(f"document.getElementById('s-{control.key}').focus()")
        page.press("ArrowRight")
        page.press("ArrowRight")
        state[control.key] = float(page.js(f"document.getElementById('n-{control.key}').value"))
        at = control.position(state[control.key])
        assert at > control.position(control.default)
        assert at == pytest.approx(control.position(control.default) + 2 * control.step, abs=control.step)
        expect_trained(page, state)
    page.press("End")
    assert page.js("Number(document.getElementById('n-nn').value)") == 3


@in_browser
def test_fields_take_numbers_and_refuse_the_rest(page: Page) -> None:
    page.type("#n-ppl", "150.5")
    state = DEFAULTS | {"ppl": 150.5}
    expect_trained(page, state)
    for key, text in (("ppl", "0.5"), ("beta", "0"), ("pw", "3"), ("c", "")):
        page.type(f"#n-{key}", text) if text else page.js(
            f"(e => {{ e.value = ''; e.dispatchEvent(new Event('input')); }})(document.getElementById('n-{key}'))"
        )
        assert "Give a number" in page.text(f"#e-{key}")
        assert page.js(f"document.getElementById('n-{key}').getAttribute('aria-invalid')") == "true"
        expect_trained(page, state)
    page.type("#n-c", "0.3")  # leaving a field with something unusable shows again what is computed with
    assert page.js("document.getElementById('n-pw').value") == "-38"
    assert page.text("#e-pw") == ""
    page.type("#n-pw", "-500")  # beyond the slider
    expect_trained(page, state | {"c": 0.3, "pw": -500.0})


@in_browser
def test_setting_is_kept_in_the_address(page: Page, address: str) -> None:
    page.type("#n-beta", "0.25")
    page.click('[data-preset="unfamiliar"]')
    page.wait_for("location.hash.includes('ppl=200')")
    page.open(page.js("location.href"))
    state = DEFAULTS | {"beta": 0.25, "ppl": 200.0}
    expect_trained(page, state)
    page.click('nav a[href="#exercises"]')
    assert page.js("location.hash") == "#exercises"
    expect_trained(page, state)
    page.js("location.hash = '#ppl=5'")  # as if pasted: what it does not name is at its default
    page.wait_for("document.getElementById('n-ppl').value === '5'")
    expect_trained(page, DEFAULTS | {"ppl": 5.0})
    page.click('[data-preset="reset"]')
    expect_trained(page, DEFAULTS)


@in_browser
def test_hostile_address_is_text(page: Page, address: str) -> None:
    bad = {
        "pw": "<img src=x onerror=alert(1)>",
        "beta": "-1",
        "ppl": "NaN",
        "c": "1e999",
        "__proto__": "1",
        "eps": "0.5",
    }
    page.open(address + "#" + "&".join(f"{key}={value}" for key, value in bad.items()))
    expect_trained(page, DEFAULTS | {"eps": 0.5})
    assert "<img src=x onerror=alert(1)>" in page.text("#message")
    assert page.js("document.querySelectorAll('img').length") == 0
    page.open(address + "#%E0%A4%A=" + "x" * 100_000)
    expect_trained(page, DEFAULTS)


@in_browser
@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("start", "loss log 2"),
        ("learnt", "towards the chosen"),
        ("wrong", "towards the rejected"),
        ("displaced", "became less likely than under the reference, by 15 nats"),
    ],
)
def test_presets_say_what_they_show(page: Page, preset: str, words: str) -> None:
    page.click(f'[data-preset="{preset}"]')
    assert words in page.text("#sentence")
    state = {c.key: float(page.js(f"document.getElementById('n-{c.key}').value")) for c in CONTROLS}
    expect_trained(page, state)


@in_browser
def test_remarks(page: Page, address: str) -> None:
    for setting, remarks in (
        ("#ppl=1", ("β is 0 and nothing is learned", "lower bound")),
        ("#c=0", ("falls back to the fixed β",)),
        ("#ppl0=1.1", ("upper bound",)),
    ):
        page.open(address + setting)
        assert all(words in page.text("#remarks") for words in remarks), setting


@in_browser
def test_curves_are_drawn_to_scale(page: Page) -> None:
    """Each curve, read back through the axis ticks, gives the loss and the gradient of the training code's formula."""
    betas = {rule: numbers["beta"] for rule, numbers in trained(DEFAULTS).items()}
    read = """(id => {
      const svg = document.getElementById(id), number = t => Number(t.textContent.replace('−', '-'));
      const texts = anchor => [...svg.querySelectorAll(`text[text-anchor=${anchor}]`)].filter(t => !isNaN(number(t)));
      const ys = texts('end').map(t => [number(t), t.getAttribute('y') - 4]);
      const xs = texts('middle').map(t => [number(t), Number(t.getAttribute('x'))]);
      const points = name => svg.querySelector('polyline.' + name).getAttribute('points').split(' ');
      const curve = name => points(name).map(p => p.split(',').map(Number));
      const curves = Object.fromEntries(['fixed', 'foodpo', 'learnable'].map(n => [n, curve(n)]));
      return {xs, ys, curves, marks: svg.querySelectorAll('path.mark').length}; })"""
    formulas = {
        "plot-loss": lambda beta, r: math.log1p(math.exp(-beta * r)),
        "plot-gradient": lambda beta, r: -beta / (1 + math.exp(beta * r)),
    }
    for plot, formula in formulas.items():
        drawn = page.js(f"{read}('{plot}')")
        assert drawn["marks"] == 3 and len(drawn["xs"]) >= 3 and len(drawn["ys"]) >= 3

        def value(ticks: list[list[float]], pixel: float) -> float:
            (a, pa), (b, pb) = ticks[0], ticks[-1]
            return a + (pixel - pa) * (b - a) / (pb - pa)

        height = abs(value(drawn["ys"], 0) - value(drawn["ys"], 250))
        for rule in RULES:
            for x, y in drawn["curves"][rule]:
                expected = formula(betas[rule], value(drawn["xs"], x))
                assert value(drawn["ys"], y) == pytest.approx(expected, abs=0.005 * height)
    rows = page.js("[...document.querySelectorAll('#curve-rows tr')].map(r => [...r.children].map(c => c.textContent))")
    assert [row[0] for row in rows][3] == "0" and len(rows) == 7
    assert rows[3][1::2] == ["0.6931"] * 3


EXERCISES = {
    1: (["-1.609", "−1,609", " -1.6094379 "], ["1.609", "0.2", "-0.699", "-1.715", "", "two"]),
    2: (["-1.715", "-1.7148"], ["1.715", "0.18", "-1.609"]),
    3: (["0", "0.0", "-0"], ["0.5", "1", "-0.5", "0.01"]),
    4: (["-0.3946", "-0.395", "-0.394"], ["0.3946", "0.105", "0.5", "-0.4"]),
    5: (["0.263", "0.2633"], ["-0.263", "0.769", "0.114", "1.463", "0.27"]),
    6: (["-0.310", "-0.31", "-0.3100"], ["0.310", "-0.690", "0.371", "-0.3"]),
}


@in_browser
def test_exercises_accept_right_and_refuse_wrong_answers(page: Page) -> None:
    def verdict(number: int) -> tuple[bool, str]:
        return page.js(f"document.querySelector('#v-{number}').classList.contains('right')"), page.text(f"#v-{number}")

    for number, (right, wrong) in EXERCISES.items():
        for text in wrong:
            page.js(f"document.querySelector('#a-{number}').value = ''")
            page.type(f"#a-{number}", text)
            page.press("Enter")
            assert verdict(number)[0] is False, (number, text)
            assert "Not yet" in verdict(number)[1] or "Give a number" in verdict(number)[1]
        for text in right:
            page.type(f"#a-{number}", text)
            page.click(f'form[data-exercise="{number}"] button')
            assert verdict(number) == (True, "Right."), (number, text)
    assert page.text("#score") == "6 of 8 right"
    for number, right_choice in ((7, "falls"), (8, "policy")):
        form = f'form[data-exercise="{number}"]'
        page.click(f"{form} button")
        assert verdict(number) == (False, "Choose one.")
        for value in page.js(f"[...document.querySelectorAll('{form} input')].map(i => i.value)"):
            page.click(f'{form} input[value="{value}"]')
            page.click(f"{form} button")
            assert verdict(number)[0] is (value == right_choice), (number, value)
        page.click(f'{form} input[value="{right_choice}"]')
        page.click(f"{form} button")
    assert page.text("#score") == "8 of 8 right"
    page.type("#a-1", "7")
    page.press("Enter")
    assert page.text("#score") == "7 of 8 right"


@in_browser
def test_known_slips_get_their_own_hint(page: Page) -> None:
    for number, text, hint in (
        (1, "0.2", "probability"),
        (1, "1.609", "sign"),
        (4, "0.105", "policy's gap alone"),
        (6, "-0.69", "−σ(−r)"),
    ):
        page.type(f"#a-{number}", text)
        page.press("Enter")
        assert hint in page.text(f"#v-{number}")


@in_browser
def test_exercises_can_be_seen_in_the_panel(page: Page) -> None:
    for number, r, loss in ((3, 0.0, math.log(2)), (4, -0.3946, math.log(1 + math.exp(0.39464)))):
        page.js(f"document.querySelector('[data-show=\"{number}\"]').closest('details').open = true")
        page.click(f'[data-show="{number}"]')
        table = shown(page)
        assert (table["r"], table["fixed-loss"]) == pytest.approx((r, loss), abs=1e-4)
        assert page.js("document.activeElement.id") == "h-panel"


@in_browser
def test_every_control_is_named_and_reached_by_tab(page: Page) -> None:
    assert page.unnamed() == []
    # All that is not a slider or its field are some 45: links, buttons, answers, groups of choices, summaries, tables.
    assert page.missed_by_tab(presses=2 * len(CONTROLS) + 50) == []


@in_browser
def test_the_driver_notices_errors(tab: Page, tmp_path: Path) -> None:
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'unsafe-inline'; img-src 'none'\">"
    for body in ("<script>throw new Error('no')</script>", "<script>console.error('no')</script>", "<img src=x.png>"):
        (tmp_path / "bad.html").write_text(policy + body)
        tab.open((tmp_path / "bad.html").as_uri())
        assert tab.problems != [], body
    (tmp_path / "bad.html").write_text(
        '<body style="color: #999; background: #fff"><main>pale<input><a href="#">x</a></main>'
    )
    tab.open((tmp_path / "bad.html").as_uri())
    assert len(tab.low_contrast()) == 1 and len(tab.unnamed()) == 1
    assert len(tab.missed_by_tab(presses=1)) == 1 and tab.missed_by_tab(presses=3) == []


@in_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_readable_narrow_wide_light_and_dark(page: Page, address: str, width: int, dark: bool) -> None:
    page.size(width)
    page.media(dark=dark)
    page.open(address + "#ppl=1&pw=-9999.123&pl=-1.5")
    page.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.type("#a-1", "0.2")
    page.press("Enter")
    assert page.js("document.documentElement.scrollWidth") == width
    assert page.cut() == []
    assert page.js("document.querySelector('#numbers').getBoundingClientRect().right <= innerWidth")
    assert page.low_contrast() == []
    background = page.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


@in_browser
def test_prints_on_paper(page: Page, address: str) -> None:
    page.size(720)
    page.media(dark=True, printing=True)
    page.open(address)
    assert page.js("document.documentElement.scrollWidth") == 720
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.js(
        "[...document.querySelectorAll('nav, .presets, input[type=range]')].every(e => !e.checkVisibility())"
    )
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8


@in_browser
def test_without_javascript_the_text_is_there(page: Page, address: str) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(address)
        # The document object stays readable for the tools of the browser.
        assert page.js("document.getElementById('panel-body').checkVisibility()") is False
        assert page.js("document.querySelector('noscript p').checkVisibility()") is True
        assert "Direct Preference Optimization" in page.text("header")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
