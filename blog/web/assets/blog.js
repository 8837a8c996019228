"use strict";

// Times in the reader's zone. The page has them in UTC and in a form that is not shorter, last in
// their line, so that nothing moves.
for (const time of document.querySelectorAll("time[datetime]")) {
	const at = new Date(time.dateTime);
	if (isNaN(at)) continue;
	const two = (n) => String(n).padStart(2, "0");
	time.title = time.textContent;
	time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

// What is wider than the page scrolls, by keyboard too: also what a script puts there later.
const reachable = (within) => {
	for (const wide of within.querySelectorAll("pre, table")) {
		if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
	}
};
reachable(document);
addEventListener("resize", () => reachable(document));
new MutationObserver((changes) => {
	for (const node of changes.flatMap((c) => [...c.addedNodes])) {
		if (node instanceof Element && node.isConnected) reachable(node.parentElement);
	}
}).observe(document.getElementById("main"), { childList: true, subtree: true });
