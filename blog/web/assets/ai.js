// Shows the answer of a model while it comes. Without this script the same forms answer with a page.
"use strict";

(() => {
	let running = null; // the AbortController of the answer that is being shown

	// events reads the events of a response: objects of name and data.
	async function* events(response) {
		const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
		let rest = "";
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return;
			const blocks = (rest + value).split("\n\n");
			rest = blocks.pop();
			for (const block of blocks) {
				const event = { name: "", data: "" };
				for (const line of block.split("\n")) {
					if (line.startsWith("event: ")) event.name = line.slice(7);
					if (line.startsWith("data: ")) event.data += line.slice(6);
				}
				if (event.name) yield { name: event.name, data: JSON.parse(event.data) };
			}
		}
	}

	// ask shows in out what the server answers, and returns the text if it is whole. Where the server
	// answers with a page instead, it calls other.
	async function ask(address, fields, out, other) {
		running?.abort();
		const mine = (running = new AbortController());
		const part = (name) => out.querySelector(`[data-ai-${name}]`);
		const [note, text, trouble, choice] = ["note", "text", "trouble", "choice"].map(part);
		note.textContent = out.dataset.waiting;
		trouble.textContent = "";
		choice.hidden = true;
		const shown = document.createElement("div");
		shown.className = "coming";
		text.replaceChildren(shown);
		text.setAttribute("aria-busy", "true"); // read out once, at the end
		out.hidden = false;
		let whole = "";
		try {
			const response = await fetch(address, {
				method: "POST",
				headers: { Accept: "text/event-stream" },
				body: new URLSearchParams(fields),
				signal: mine.signal,
			});
			if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
				out.hidden = true;
				other();
				return null;
			}
			for await (const { name, data } of events(response)) {
				if (name === "text") {
					if (whole === "") note.textContent = out.dataset.by;
					whole += data;
					shown.textContent = whole;
				} else if (name === "done") {
					text.innerHTML = data.html; // sanitised by the server
					note.textContent = data.note;
					return whole;
				} else if (name === "failed") {
					if (whole === "") note.textContent = "";
					trouble.textContent = data.message;
					return null;
				}
			}
			trouble.textContent = out.dataset.lost;
		} catch (error) {
			if (mine.signal.aborted) return null; // another answer is shown now
			if (whole === "") note.textContent = "";
			trouble.textContent = out.dataset.lost;
		} finally {
			if (running === mine) {
				running = null;
				text.removeAttribute("aria-busy");
			}
		}
		return null;
	}

	const output = (element) => element.closest("section").querySelector("[data-ai-output]");

	document.addEventListener("submit", (event) => {
		const form = event.target;
		if (event.submitter?.matches("[data-ai-continue]")) {
			event.preventDefault();
			suggest(form, event.submitter);
		} else if (form.matches("form[data-ai]")) {
			event.preventDefault();
			ask(form.action, new FormData(form), output(form), () => form.submit());
		}
	});

	// suggest shows how the text of the editor could go on; only the author's click puts it there.
	async function suggest(form, button) {
		const out = output(button);
		const body = form.elements.body;
		const fields = { title: form.elements.title?.value ?? "", body: body.value };
		const lost = () => {
			out.querySelector("[data-ai-note]").textContent = "";
			out.querySelector("[data-ai-trouble]").textContent = out.dataset.lost;
			out.hidden = false;
		};
		const text = await ask(button.formAction, fields, out, lost);
		if (text === null) return;
		const choice = out.querySelector("[data-ai-choice]");
		choice.hidden = false;
		choice.querySelector("[data-ai-accept]").onclick = () => {
			body.value = body.value.trimEnd() + "\n\n" + text.trim() + "\n";
			body.dispatchEvent(new Event("input", { bubbles: true }));
			out.hidden = true;
			body.focus();
		};
		choice.querySelector("[data-ai-dismiss]").onclick = () => {
			out.hidden = true;
			button.focus();
		};
	}
})();
