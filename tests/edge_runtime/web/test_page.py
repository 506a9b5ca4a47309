"""The page of the web sink in a real browser without a window."""

import re

import numpy as np
import pytest

from tests.browser import DESKTOP, PHONE, chromium
from tests.conftest import need
from tests.edge_runtime.web.events import LABELS, MODEL, emotion, listening, status, wait_for, web_sink

need("starlette", "uvicorn", "websockets", "playwright")

from playwright.sync_api import Error, expect  # noqa: E402

from edge_runtime.sinks.web import state as state_messages  # noqa: E402

HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Open pages; at the end, none of them had an error or sent a request to another server."""
    contexts, errors, requests = [], [], []

    def open_page(address, *, path="/", **settings):
        context = browser.new_context(**({"viewport": DESKTOP} | settings))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append((address, request.url)))
        page.on("websocket", lambda socket: requests.append((address.replace("http", "ws"), socket.url)))
        page.goto(address + path)
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert requests
    assert [url for address, url in requests if not url.startswith(f"{address}/")] == []


def painted(page, selector="#canvas"):
    """Return how many pixels of a canvas have each colour, as the page's style names it."""
    return page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const style = getComputedStyle(document.body);
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            copy.drawImage(canvas, 0, 0);
            const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
            const names = {};
            for (const name of ["c0", "c1", "c2", "c3", "c4", "accent", "idle"]) {
                const hex = style.getPropertyValue(`--${name}`).trim().slice(1);
                names[parseInt(hex, 16)] = name;
            }
            const found = {};
            for (let i = 0; i < data.length; i += 4) {
                const name = names[(data[i] << 16) | (data[i + 1] << 8) | data[i + 2]];
                if (name && data[i + 3] === 255) found[name] = (found[name] ?? 0) + 1;
            }
            return found;
        }""",
        selector,
    )


def test_all_parts_are_there_and_named(sink, monitor, visit):
    monitor.record_audio(np.full(1600, 0.1, np.float32), 32_000, speech=0.9, speaking=True, dropped=1234)
    page = visit(sink.address)
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page).to_have_title("edgeemo")
    for name in ("Emotion", "Sound", "Timeline", "Last results", "Messages", "Device"):
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("meter", name="Level", exact=True)).to_have_attribute("aria-valuetext", "-20 dB")
    expect(page.locator("#speech-text")).to_have_text("Speech")
    expect(page.get_by_role("meter", name="Probability of speech")).to_have_attribute("aria-valuenow", "90")
    expect(page.locator("#state")).to_have_text("listening")
    for label in LABELS:
        expect(page.get_by_role("list", name="Confidence").get_by_role("meter", name=label)).to_be_visible()
    device = page.locator("#device")
    for text in ("test microphone", MODEL, "onnxruntime", "1,234", "Listening for"):
        expect(device).to_contain_text(text)
    expect(page.get_by_role("img", name="Timeline")).to_be_visible()
    expect(page.locator("#emotion-note")).to_have_text("No result yet.")
    expect(page.locator("#no-finals")).to_be_visible()


def test_events_are_shown_at_once(sink, monitor, visit):
    page = visit(sink.address)
    expect(page.get_by_role("status")).to_have_text("Live")
    monitor.record_audio(np.full(1600, 0.01, np.float32), 10 * 16_000, speech=0.9, speaking=True, dropped=0)
    sink.emit(emotion("provisional", 5, 8, "sad", confidence=0.5, uncertain=True))
    expect(page.locator("#emotion-label")).to_have_text("sad")
    expect(page.locator("#emotion-confidence")).to_have_text("50 %")
    expect(page.locator("#uncertain")).to_be_visible()
    expect(page.get_by_role("meter", name="sad")).to_have_attribute("aria-valuenow", "50")
    expect(page.get_by_role("meter", name="happy")).to_have_attribute("aria-valuenow", "25")
    expect(page.locator("#level-number")).to_have_text("−40")
    expect(page.locator("#finals tr")).to_have_count(0)
    sink.emit(emotion("final", 5, 9.5, "happy", confidence=0.75))
    expect(page.locator("#finals tr")).to_have_text(re.compile(r"happy\s*75 %\s*4.5 s"))
    expect(page.locator("#uncertain")).to_be_hidden()
    expect(page.locator("#spoken")).to_have_text("happy, 75 %")
    sink.emit(status("gap", 9.5, "160 samples were lost in capture"))
    expect(page.get_by_role("log").get_by_role("listitem").first).to_contain_text("160 samples were lost")
    monitor.record_audio(np.zeros(1600, np.float32), 12 * 16_000, speech=0.0, speaking=False, dropped=0)
    expect(page.locator("#speech-text")).to_have_text("No speech")
    expect(page.get_by_role("meter", name="Level", exact=True)).to_have_attribute("aria-valuetext", "silence")


@pytest.mark.parametrize(
    ("profile", "known", "shown"),
    [
        ("anna", 0.617, "profile anna, speaker 62 % known"),
        ("b" * 64, 0.0, f"profile {'b' * 64}, speaker 0 % known"),
        (None, 0.4, "speaker 40 % known"),
    ],
)
def test_what_is_known_of_the_speaker_is_shown_while_there_is_something(sink, visit, profile, known, shown):
    page = visit(sink.address, viewport=PHONE)
    badge = page.locator("#profile")
    for number, there in enumerate((False, True, False)):
        event = emotion("final", number, number + 1)
        sink.emit(event.model_copy(update={"profile": profile, "speaker_known": known} if there else {}))
        expect(page.locator("#finals tr")).to_have_count(number + 1)
        expect(badge).to_be_visible(visible=there)
        expect(badge).to_have_text(shown if there else "")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_the_word_is_the_gates_whatever_the_last_moment_was(sink, monitor, visit):
    page = visit(sink.address)
    block = np.full(1600, 0.01, np.float32)
    probability = page.get_by_role("meter", name="Probability of speech")
    for speech, speaking, word, value in ((0.02, True, "Speech", "2"), (0.34, False, "No speech", "34")):
        monitor.record_audio(block, 16_000, speech=speech, speaking=speaking, dropped=0)
        expect(page.locator("#speech-text")).to_have_text(word)
        expect(probability).to_have_attribute("aria-valuenow", value)
        expect(page.locator(".sound")).not_to_contain_text("%")
    monitor.record_audio(block, 16_000, speech=None, speaking=True, dropped=0)
    expect(page.locator("#speech-text")).to_have_text("Everything is scored, silence too")
    expect(page.locator("#probability")).to_be_hidden()


def test_an_old_emotion_is_dimmed_and_shows_its_age(monitor, visit):
    """Its age goes on by itself, also where no audio comes or the line is lost."""
    with web_sink(monitor) as sink:
        page = visit(sink.address, reduced_motion="reduce")
        monitor.record_audio(np.zeros(1600, np.float32), 10 * 16_000, speech=0.1, speaking=False, dropped=0)
        sink.emit(emotion("final", 7, 9.9, "happy"))
        age, label = page.locator("#emotion-age"), page.locator("#emotion-label")
        expect(label).to_have_text("happy")
        expect(age).to_be_hidden()
        colours = "[getComputedStyle(document.getElementById('emotion')).color, {}]"
        quiet = "getComputedStyle(document.getElementById('emotion-note')).color"
        shown, dim = page.evaluate(colours.format(quiet))
        assert shown != dim
        monitor.record_audio(np.zeros(1600, np.float32), 21 * 16_000, speech=0.1, speaking=False, dropped=0)
        expect(age).to_have_text("11 s ago")
        assert page.evaluate(colours.format(quiet)) == [dim, dim]
        # Without audio the age still grows.
        expect(age).to_have_text("12 s ago")
        expect(page.locator("#emotion-note")).to_have_text("final, 2.9 s of speech")
    expect(page.get_by_role("status")).to_have_text("Connection lost, trying again")
    expect(age).to_have_text(re.compile("1[3-9] s ago"))
    page.close()
    visit.errors.clear()
    with web_sink(monitor) as sink:
        # Of a page that is opened now, too: of the audio itself, the last second is as it was.
        sink.emit(emotion("final", 7, 9.9, "happy"))
        page = visit(sink.address)
        expect(page.locator("#emotion-age")).to_have_text(re.compile("1[2-9] s ago"))


def test_a_page_without_a_connection_does_not_say_that_it_listens(monitor, visit):
    """Nor that there is speech: the process may have died in the middle of it."""
    with web_sink(monitor) as sink:
        monitor.record_audio(np.full(1600, 0.1, np.float32), 16_000, speech=0.9, speaking=True, dropped=0)
        page = visit(sink.address)
        state, speech = page.locator("#state"), page.locator("#speech")
        expect(state).to_have_text("listening")
        expect(speech).to_have_attribute("data-on", "true")
    expect(page.get_by_role("status")).to_have_text("Connection lost, trying again")
    for place in (state, page.locator('[data-fact="State"]')):
        expect(place).to_have_text("unknown: no connection")
    expect(state).to_have_attribute("data-state", "unknown")
    expect(speech).to_have_attribute("data-on", "false")
    expect(page.locator("#speech-text")).to_have_text("–")
    page.close()
    visit.errors.clear()


def test_a_loop_that_hangs_is_not_shown_as_listening(sink, monitor, visit, monkeypatch):
    page = visit(sink.address)
    expect(page.locator("#state")).to_have_text("listening")
    monkeypatch.setattr(state_messages, "HEALTHY_SECONDS", 0.0)
    expect(page.locator("#state")).to_have_text("the program hangs")
    monitor.record(status("stopped", 0.0, "the end"))
    expect(page.locator("#state")).to_have_text("stopped")


def test_a_model_that_gives_no_results_is_shown(sink, monitor, visit):
    page = visit(sink.address)
    state = page.locator("#state")
    expect(state).to_have_text("listening")
    for _ in range(10):
        monitor.record_window(0.1, failed=True)
    expect(state).to_have_text("no window can be scored")
    expect(state).to_have_attribute("data-state", "failing")
    expect(page.locator('[data-fact="State"]')).to_have_text("no window can be scored")
    monitor.record(status("device-lost", 0.0, "gone"))
    expect(state).to_have_text("microphone lost")
    monitor.record(status("device-back", 0.0, "back"))
    monitor.record_window(0.1)
    expect(state).to_have_text("listening")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_timeline_paints_provisional_results_lighter_than_final_ones(sink, monitor, visit, scheme):
    page = visit(sink.address, color_scheme=scheme)
    expect(page.get_by_role("status")).to_have_text("Live")
    monitor.record_audio(np.zeros(1600, np.float32), 60 * 16_000, speech=0.1, speaking=False, dropped=0)
    # The colours of LABELS: neutral 0, happy 2, sad 3.
    sink.emit(emotion("final", 10, 30, "happy"))
    sink.emit(emotion("provisional", 40, 50, "sad"))
    wait_for(lambda: painted(page).get("c2", 0) > 500 or page.wait_for_timeout(50))
    expect(page.locator("#emotion-label")).to_have_text("sad")
    assert "c3" not in painted(page)
    sink.emit(emotion("final", 40, 50, "sad"))
    wait_for(lambda: painted(page).get("c3", 0) > 250 or page.wait_for_timeout(50))
    # Twice as long is twice as wide, and half as wide on a timeline of ten minutes.
    before = painted(page)
    assert before["c2"] / before["c3"] == pytest.approx(2, rel=0.1)
    page.get_by_text("10 min", exact=True).click()
    wait_for(lambda: painted(page).get("c2", 0) < before["c2"] / 2 or page.wait_for_timeout(50))
    wait_for(lambda: painted(page, "#trace").get("idle", 0) > 0 or page.wait_for_timeout(50))


def test_the_keyboard_reaches_every_result(sink, monitor, visit):
    monitor.record_audio(np.zeros(1600, np.float32), 60 * 16_000, speech=0.1, speaking=False, dropped=0)
    for number, label in enumerate(LABELS):
        sink.emit(emotion("final", 10 * number, 10 * number + 5, label))
    page = visit(sink.address)
    expect(page.locator("#finals tr")).to_have_count(3)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "canvas":
            break
    for key, label in (("ArrowLeft", "sad"), ("ArrowLeft", "happy"), ("Home", "neutral"), ("ArrowRight", "happy")):
        page.keyboard.press(key)
        expect(page.locator("#readout")).to_contain_text(f"{label} 75 %")


def test_it_comes_back_by_itself_and_fills_the_gap(monitor, visit):
    with web_sink(monitor) as sink:
        port = int(sink.address.rpartition(":")[2])
        page = visit(sink.address)
        sink.emit(emotion("final", 0, 2, "happy"))
        expect(page.locator("#finals tr")).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text("Connection lost, trying again")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    with web_sink(monitor, port=port) as sink:
        sink.emit(emotion("final", 3, 5, "sad"))
        expect(page.get_by_role("status")).to_have_text("Live", timeout=20_000)
        # Earlier and new events are there, and none twice.
        expect(page.locator("#finals tr td.label")).to_have_text(["sad", "happy"])
        sink.emit(emotion("final", 6, 7, "neutral"))
        expect(page.locator("#finals tr td.label")).to_have_text(["neutral", "sad", "happy"])
    # Chromium logs the failed connection.
    wait_for(lambda: all("ERR_CONNECTION_REFUSED" in text for text in visit.errors))
    visit.errors.clear()
    page.close()


def test_a_new_run_has_a_timeline_of_its_own(monitor, visit):
    with web_sink(monitor) as sink:
        port = int(sink.address.rpartition(":")[2])
        page = visit(sink.address)
        monitor.record_audio(np.zeros(1600, np.float32), 60 * 16_000, speech=0.1, speaking=False, dropped=0)
        sink.emit(emotion("final", 0, 50, "happy"))
        wait_for(lambda: painted(page).get("c2", 0) > 500 or page.wait_for_timeout(50))
    another = listening()
    another.record_audio(np.zeros(1600, np.float32), 60 * 16_000, speech=0.1, speaking=False, dropped=0)
    with web_sink(another, port=port):
        expect(page.get_by_role("status")).to_have_text("Live", timeout=20_000)
        expect(page.locator("#level-number")).to_have_text("−∞")
        wait_for(lambda: "c2" not in painted(page) or page.wait_for_timeout(50))
        expect(page.locator("#finals tr")).to_have_count(1)
    visit.errors.clear()
    page.close()


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_hostile_texts_stay_texts(visit, viewport):
    labels = ("neutral", HOSTILE, "x" * 300, "__proto__")
    with web_sink(listening(labels, source=HOSTILE + "y" * 300)) as sink:
        page = visit(sink.address, viewport=viewport)
        sink.emit(emotion("provisional", 0, 1, HOSTILE, labels=labels))
        expect(page.locator("#emotion-label")).to_have_text(HOSTILE)
        for label in labels:
            sink.emit(emotion("final", 0, 1, label, labels=labels).model_copy(update={"profile": HOSTILE + "p" * 300}))
        sink.emit(status("engine", 1, HOSTILE * 5 + "z" * 500))
        expect(page.locator("#finals tr")).to_have_count(4)
        expect(page.locator("#source")).to_contain_text(HOSTILE)
        expect(page.locator("#profile")).to_contain_text(f"profile {HOSTILE}")
        expect(page.locator("#messages")).to_contain_text(HOSTILE)
        page.locator("#canvas").press("ArrowLeft")
        expect(page.locator("#readout")).to_contain_text("__proto__")
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("window.hit") is None
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


def test_the_page_cannot_run_or_load_foreign_content(sink, browser):
    """Even if a text were written as markup some day."""
    context = browser.new_context()
    page = context.new_page()
    blocked = []
    page.on("requestfailed", lambda request: blocked.append((request.url, request.failure)))
    page.goto(sink.address)
    expect(page.get_by_role("status")).to_have_text("Live")
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://other.invalid/x.png'}))")
    wait_for(lambda: blocked or page.wait_for_timeout(50))
    assert blocked == [("http://other.invalid/x.png", "csp")]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_the_screen_and_can_be_read(sink, visit, viewport, scheme):
    for number, label in enumerate(LABELS):
        sink.emit(emotion("final", number, number + 1, label, uncertain=True))
    page = visit(sink.address, viewport=viewport, color_scheme=scheme)
    expect(page.locator("#finals tr")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    # Of a grey of 89 the relative luminance is 0.1.
    assert (max(map(int, re.findall(r"\d+", background)[:3])) < 89) == (scheme == "dark")
    # WCAG 2.2, 1.4.3: 4.5 for text.
    texts = page.evaluate(CONTRASTS)
    assert len(texts) > 50
    for text, behind, contrast in texts:
        assert contrast >= 4.5, (text, behind)


CONTRASTS = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => {
        const linear = (part) => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
        return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    };
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = numbers(getComputedStyle(each).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.matches("noscript, .skip, .hidden")) continue;
        const [text, back] = [numbers(getComputedStyle(element).color), behind(element)];
        const [light, dark] = [luminance(text), luminance(back)].sort((one, other) => other - one);
        found.push([element.textContent.trim(), `${text} on ${back}`, (light + 0.05) / (dark + 0.05)]);
    }
    return found;
}"""


def test_a_token_opens_the_page_and_leaves_the_address(monitor, browser):
    token = "a-token-for-the-page"
    with web_sink(monitor, host="0.0.0.0", token=token) as sink:
        address = f"http://127.0.0.1:{sink.address.rpartition(':')[2]}"
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_role("heading")).to_have_text("This page needs its token")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("status")).to_have_text("Live")
        assert page.url == f"{address}/"
        assert page.evaluate("document.cookie") == ""
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        context.close()


def test_another_site_cannot_open_the_websocket(sink, browser):
    """A page of another origin, in the same browser."""
    with web_sink() as other:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{other.address}/healthz")
        outcome = page.evaluate(
            """(url) => new Promise((resolve) => {
                const socket = new WebSocket(url);
                socket.onopen = () => resolve("open");
                socket.onerror = () => resolve("refused");
            })""",
            sink.address.replace("http", "ws") + "/ws",
        )
        context.close()
    assert outcome == "refused"


def test_a_page_whose_token_has_changed_shows_it(monitor, visit):
    with web_sink(monitor, host="127.0.0.1", token="first") as sink:
        port = int(sink.address.rpartition(":")[2])
        page = visit(sink.address, path="/?token=first")
        expect(page.get_by_role("status")).to_have_text("Live")
    with web_sink(monitor, port=port, token="second"):
        expect(page.get_by_role("status")).to_have_text(re.compile("Not allowed any more"), timeout=20_000)
    visit.errors.clear()
    page.close()


def test_a_plane_of_valence_and_arousal(sink, visit):
    page = visit(sink.address)
    expect(page.get_by_role("status")).to_have_text("Live")
    sink.emit(emotion("final", 1, 2, "happy", confidence=0.75))
    expect(page.locator("#emotion-label")).to_have_text("happy")
    expect(page.locator("#dimensions")).to_be_hidden()
    sink.emit(emotion("final", 3, 4, "sad", dimensions={"arousal": 0.25, "valence": 0.75, "dominance": 0.5}))
    expect(page.locator("#dimension-values")).to_have_text("arousal 0.25, valence 0.75, dominance 0.50")
    plane = page.get_by_role("img", name="Valence 0.75 and arousal 0.25, from 0 to 1")
    expect(plane).to_be_visible()
    box, dot = plane.bounding_box(), page.locator("#plane-dot").bounding_box()
    across = (dot["x"] + dot["width"] / 2 - box["x"]) / box["width"]
    down = (dot["y"] + dot["height"] / 2 - box["y"]) / box["height"]
    assert across == pytest.approx(0.75, abs=0.1)
    assert down == pytest.approx(0.75, abs=0.1), "low arousal is at the bottom"
    sink.emit(emotion("final", 5, 6, "sad", dimensions={"dominance": 0.5}))
    expect(page.locator("#dimension-values")).to_have_text("dominance 0.50")
    expect(page.locator("#plane")).to_be_hidden()
