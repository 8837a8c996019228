// What makes the page live: the server sends it rendered anew each second, and what differs is
// put in its place, so that selections and focus stay. Plots are drawn from the history beside it.
(function () {
	"use strict";

	const pill = document.getElementById("live-state");
	function tell(is, text) {
		if (pill.dataset.is !== is) {
			pill.dataset.is = is;
			pill.textContent = text;
		}
	}

	// morph makes the children of a node those of another, and keeps those that are the same. What is
	// open stays so.
	function morph(to, from) {
		const want = from.childNodes;
		for (let i = 0; i < want.length; i++) {
			const a = to.childNodes[i], b = want[i];
			if (!a) {
				to.appendChild(document.importNode(b, true));
			} else if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName ||
				(a.dataset && b.dataset && a.dataset.key !== b.dataset.key)) {
				to.replaceChild(document.importNode(b, true), a);
			} else if (a.nodeType === Node.ELEMENT_NODE) {
				for (const name of b.getAttributeNames()) {
					if (name !== "open" && a.getAttribute(name) !== b.getAttribute(name)) a.setAttribute(name, b.getAttribute(name));
				}
				for (const name of a.getAttributeNames()) {
					if (name !== "open" && !b.hasAttribute(name)) a.removeAttribute(name);
				}
				morph(a, b);
			} else if (a.nodeValue !== b.nodeValue) {
				a.nodeValue = b.nodeValue;
			}
		}
		while (to.childNodes.length > want.length) to.removeChild(to.lastChild);
	}

	const parts = ["live-a", "live-b"].map((id) => document.getElementById(id));
	// The plots say it, too, and on a phone the table is long.
	if (innerWidth <= 700) parts[1].querySelector("details").open = false;
	function show(html) {
		const doc = new DOMParser().parseFromString(html, "text/html");
		for (const part of parts) morph(part, doc.getElementById(part.id));
	}

	// Plots.
	const rate = (x) => x == null ? "–" : (x < 10 ? +x.toFixed(1) : Math.round(x)).toLocaleString("en");
	const seconds = (x) => x == null ? "–" : x < 1 ? Math.round(x * 1000) + " ms" : x < 10 ? x.toFixed(1) + " s" : Math.round(x) + " s";
	const whole = (x) => x == null ? "–" : String(x);
	const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour12: false });

	const stacked = [["answered", "by nodes"], ["from_cache", "from the cache"], ["overloaded", "no room"], ["failed", "failed"], ["clients", "client’s"]];
	const plots = [
		{ id: "plot-requests", write: rate, least: 1, bars: true,
			lines: [["--clients", "client’s"], ["--failed", "failed"], ["--overloaded", "no room"], ["--cache", "from the cache"], ["--answered", "by nodes"]],
			// Bars on top of each other: the highest is drawn first, the others over it. Nothing is no
			// bar: its edge would show.
			data: (h) => {
				const sums = new Array(h.answered.length).fill(0), layers = [];
				for (const [name] of stacked) layers.unshift(h[name].map((n, i) => (sums[i] += n / h.step, n ? sums[i] : null)));
				return layers;
			},
			say: (h, i) => stacked.filter(([name], at) => at === 0 || h[name][i]).map(([name, word]) => rate(h[name][i] / h.step) + " " + word).join(", ") },
		{ id: "plot-first", write: seconds, least: 0.1, lines: [["--p95", "p95"], ["--p50", "p50"]],
			data: (h) => [h.first_byte_p95, h.first_byte_p50],
			say: (h, i) => "p50 " + seconds(h.first_byte_p50[i]) + ", p95 " + seconds(h.first_byte_p95[i]) },
		{ id: "plot-tokens", write: rate, least: 10, area: true, lines: [["--tokens", "tokens/s"]],
			data: (h) => [h.tokens_per_second], say: (h, i) => rate(h.tokens_per_second[i]) + " a second" },
		{ id: "plot-waiting", write: whole, least: 4, area: true, whole: true, lines: [["--waiting", "waiting"]],
			data: (h) => [h.waiting], say: (h, i) => h.waiting[i] + " waiting" },
	];

	let history = null, first = 0; // the first step that is drawn

	// A young gateway has its few steps drawn wide: there is nothing before them.
	function take(update) {
		const h = update.history, n = h.answered.length;
		const age = (Date.parse(h.end) - Date.parse(update.since)) / 1000 / h.step;
		first = Math.max(0, n - Math.max(12, Math.ceil(age)));
		return h;
	}
	const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

	function dataOf(p) {
		const end = Date.parse(history.end) / 1000, n = history.answered.length;
		// A step is drawn at its middle.
		return [history.answered.map((_, i) => end - (n - i - 0.5) * history.step), ...p.data(history)].map((values) => values.slice(first));
	}

	function draw(p) {
		const box = document.querySelector("#" + p.id + " .plot"), output = document.querySelector("#" + p.id + " output");
		if (p.u) p.u.destroy();
		const axis = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
		p.u = new uPlot({
			width: box.clientWidth, height: 150, legend: { show: false }, padding: [8, 4, 0, 0],
			cursor: { y: false, points: { show: !p.bars }, drag: { x: false, y: false } },
			scales: { x: { time: true, range: (u, min, max) => [min - history.step / 2, max + history.step / 2] }, y: { range: (u, min, max) => [0, Math.max(p.least, max * 1.08 || 0)] } },
			axes: [
				{ ...axis, space: 72, size: 26, values: (u, times, at, space, apart) => times.map((t) => apart < 60 ? clock(t) : clock(t).slice(0, -3)) },
				{ ...axis, size: 52, space: 26, incrs: p.whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] : undefined, values: (u, ys) => ys.map(p.write) },
			],
			series: [{}, ...p.lines.map(([name, label]) => {
				const c = colour(name);
				return p.bars ? { label, fill: c, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.8, 40], gap: 0 }) }
					: { label, stroke: c, width: 2, fill: p.area ? c + "2e" : undefined, spanGaps: false, points: { size: 5, fill: c, width: 0 } };
			})],
			hooks: { setCursor: [(u) => {
				const i = u.cursor.idx;
				const text = i == null || i >= u.data[0].length ? "" : clock(u.data[0][i]) + ": " + p.say(history, first + i);
				if (output.textContent !== text) output.textContent = text;
			}] },
		}, dataOf(p), box);
	}

	function plot(update) {
		const begins = history === null;
		if (!begins && history.end === update.history.end) return; // no step has ended since
		history = take(update);
		if (begins) document.getElementById("plots").hidden = false;
		for (const p of plots) {
			if (begins) draw(p);
			else p.u.setData(dataOf(p));
		}
		if (!begins) return;
		const redraw = () => plots.forEach(draw);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
		new ResizeObserver(() => plots.forEach((p) => {
			const width = p.u.root.parentNode.clientWidth;
			if (width && width !== p.u.width) p.u.setSize({ width, height: 150 });
		})).observe(document.getElementById("plots"));
		// Values can be read with the arrow keys.
		for (const p of plots) {
			p.u.root.parentNode.addEventListener("keydown", (e) => {
				const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
				if (!step) return;
				e.preventDefault();
				const n = p.u.data[0].length, at = p.u.cursor.idx;
				const i = Math.min(n - 1, Math.max(0, (at == null ? n - (step < 0 ? 0 : 1) : at) + step));
				p.u.setCursor({ left: p.u.valToPos(p.u.data[0][i], "x"), top: 1 });
			});
			p.u.root.parentNode.addEventListener("blur", () => p.u.setCursor({ left: -10, top: -10 }));
		}
	}

	function open() {
		const source = new EventSource("events");
		source.onmessage = (e) => {
			const update = JSON.parse(e.data);
			show(update.html);
			plot(update);
			tell("live", "live");
		};
		source.onerror = () => {
			tell("lost", "not connected, trying again");
			if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000); // it was refused
		};
	}
	tell("wait", "connecting");
	open();
})();
