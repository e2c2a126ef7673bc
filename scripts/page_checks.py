"""What is wrong with a page in a browser: what shuts people out, and texts that stand on texts."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def serious_faults(page: Page) -> list[tuple[str, str]]:
    """Returns what axe finds serious or worse: the rule, and the first place."""
    violations = Axe().run(page).response["violations"]
    return [
        (found["id"], found["nodes"][0]["html"][:200])
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]


def texts_over_texts(page: Page) -> list[list[str]]:
    """Returns pairs of texts that stand on each other, by more than the air around letters."""
    found: list[list[str]] = page.evaluate(_OVERLAPS)
    return found


_OVERLAPS = """() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const boxes = [];
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        const parent = node.parentElement;
        if (!node.data.trim() || parent.closest(".unseen, script, style, noscript")) continue;
        const all = { visibilityProperty: true, contentVisibilityAuto: true };
        if (!parent.checkVisibility(all)) continue;
        // What scrolls sideways is cut off at its region.
        const frame = parent.closest(".scroll")?.getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const { left, right, top, bottom } of range.getClientRects()) {
            const begin = Math.max(left, frame?.left ?? left) + 1;
            const end = Math.min(right, frame?.right ?? right) - 1;
            const air = 0.2 * (bottom - top);
            if (begin < end) {
                boxes.push({ text: node.data.trim(), node, left: begin, right: end,
                    top: top + air, bottom: bottom - air });
            }
        }
    }
    boxes.sort((one, other) => one.top - other.top);
    const over = [];
    boxes.forEach((one, place) => {
        for (let next = place + 1; next < boxes.length && boxes[next].top < one.bottom; next += 1) {
            const other = boxes[next];
            if (one.node === other.node || one.node.contains(other.node)) continue;
            if (one.left < other.right && other.left < one.right) over.push([one.text, other.text]);
        }
    });
    return over;
}"""
