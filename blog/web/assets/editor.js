// The form of a post: a preview beside the text, images by paste and drop, and a copy of what was
// not stored yet, in this browser. Without this script the form does all but the copy.
"use strict";
(() => {
  const form = document.getElementById("editor");
  const {title, body, tags, key, version, id} = form.elements;
  const state = document.getElementById("state");
  const say = (text) => { state.textContent = text; };

  // The copy.
  const place = "post:" + id.value;
  const text = () => ({title: title.value, body: body.value, tags: tags.value});
  const same = (a, b) => a.title === b.title && a.body === b.body && a.tags === b.tags;
  const shown = text();
  const kept = document.getElementById("kept");
  const storage = (work) => {
    try { return work(localStorage); } catch { return null; } // it is full, or off
  };
  const forget = () => storage((s) => s.removeItem(place));
  const keep = () => {
    if (!kept.hidden) return; // first the author decides about the older one
    const now = text();
    if (same(now, shown) && !document.querySelector("[role=alert]")) {
      forget();
    } else {
      storage((s) => s.setItem(place, JSON.stringify({...now, key: key.value, version: version.value})));
    }
  };

  // The server names the copy that it has stored meanwhile, which may be that of another post.
  const stored = document.cookie.split("; ").find((c) => c.startsWith("stored="))?.slice("stored=".length);
  if (stored) {
    storage((s) => {
      for (const name of Object.keys(s)) {
        if (name.startsWith("post:") && JSON.parse(s.getItem(name)).key === stored) s.removeItem(name);
      }
    });
    document.cookie = "stored=; Path=/; Max-Age=0; Secure; SameSite=Strict";
  }
  const older = storage((s) => JSON.parse(s.getItem(place)));
  if (older && older.key !== key.value && !same(older, shown)) kept.hidden = false;
  document.getElementById("kept-use").addEventListener("click", () => {
    title.value = older.title;
    body.value = older.body;
    tags.value = older.tags;
    key.value = older.key;
    version.value = older.version; // if the post has changed since, saving says so
    kept.hidden = true;
    changed();
    title.focus();
  });
  document.getElementById("kept-drop").addEventListener("click", () => {
    kept.hidden = true;
    forget();
    keep();
    title.focus();
  });
  key.value ||= crypto.randomUUID();

  // The preview.
  const side = document.getElementById("preview-side");
  const preview = document.getElementById("preview");
  let asking;
  const show = async () => {
    asking?.abort();
    asking = new AbortController();
    side.hidden = body.value === "";
    if (side.hidden) return;
    try {
      const answer = await fetch("/preview", {
        method: "POST", signal: asking.signal, body: new URLSearchParams({body: body.value, alone: "1"}),
      });
      if (answer.ok) {
        preview.innerHTML = await answer.text(); // made safe by the server, as a post is
      } else if (answer.status === 422) {
        preview.textContent = await answer.text();
      } else {
        say(state.dataset.failed);
      }
    } catch (error) {
      if (error.name !== "AbortError") say(state.dataset.failed);
    }
  };
  form.querySelector("[formaction]").hidden = true; // it is there without being asked for

  let soon;
  const changed = () => {
    clearTimeout(soon);
    soon = setTimeout(() => { keep(); show(); }, 400);
  };
  form.addEventListener("input", changed);
  show();

  // A form is sent once, unless the author comes back to it.
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (event.submitter?.formTarget === "_blank") return; // this page stays
    if (sent) event.preventDefault();
    sent = true;
    keep();
  });
  addEventListener("pageshow", () => { sent = false; });
  addEventListener("pagehide", keep);

  // Images.
  const upload = async (file) => {
    say(state.dataset.uploading);
    const data = new FormData();
    data.append("image", file);
    try {
      const answer = await fetch("/images", {method: "POST", body: data, headers: {Accept: "application/json"}});
      const {markdown, problem} = await answer.json();
      if (markdown) {
        // A paragraph of its own, unless the author is in the middle of a line.
        const before = body.value.slice(0, body.selectionStart);
        const gap = /[^\n]\n$/.test(before) ? "\n" : "";
        body.setRangeText(gap + markdown + "\n", body.selectionStart, body.selectionEnd, "end");
        changed();
      }
      say(problem || state.dataset.uploaded);
    } catch {
      say(state.dataset.failed);
    }
  };
  let uploads = Promise.resolve(); // one after another, in the order of the files
  const uploadAll = (files) => {
    for (const file of files) uploads = uploads.then(() => upload(file));
  };
  body.addEventListener("paste", (event) => {
    // Office programs add a picture of what was copied to its text.
    if (event.clipboardData.files.length === 0 || event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    uploadAll(event.clipboardData.files);
  });
  body.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  body.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    uploadAll(event.dataTransfer.files);
  });
  const uploader = document.getElementById("uploader");
  uploader.addEventListener("submit", (event) => {
    event.preventDefault();
    uploadAll(document.getElementById("image").files);
    uploader.reset();
  });
})();
