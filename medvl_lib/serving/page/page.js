// What the page does better with a script: it sends forms without leaving the page, shows what was chosen, and waits for the model.
// Without one every form and every tab works all the same.
"use strict";

const POLL_MILLISECONDS = 2000;

/** Send a form, and put the result of the answer in place of the one that is shown. */
async function ask(form, submitter) {
  const busy = form.querySelector(".busy");
  const stop = form.querySelector(".stop");
  const stopping = new AbortController();
  const buttons = [...form.querySelectorAll("button[type=submit]")];
  const started = Date.now();
  const tell = () => { if (busy) busy.textContent = `Working… ${Math.round((Date.now() - started) / 1000)} s`; };
  const ticking = setInterval(tell, 1000);
  const body = new FormData(form, submitter);
  for (const button of buttons) button.disabled = true;
  form.setAttribute("aria-busy", "true");
  if (stop) {
    stop.hidden = false;
    stop.onclick = () => stopping.abort();
  }
  tell();
  try {
    const isMultipart = form.enctype === "multipart/form-data";
    const response = await fetch(form.action, {method: "POST", body: isMultipart ? body : new URLSearchParams(body), signal: stopping.signal});
    show(new DOMParser().parseFromString(await response.text(), "text/html"), response);
    if (busy) busy.textContent = "";
  } catch (error) {
    if (busy) busy.textContent = error.name === "AbortError" ? "Stopped." : "The server did not answer.";
  } finally {
    clearInterval(ticking);
    form.removeAttribute("aria-busy");
    for (const button of buttons) button.disabled = false;
    if (stop) stop.hidden = true;
  }
}

/** The result of an answered page; a page without one, such as the one that asks for the key, is gone to. */
function show(page, response) {
  const result = page.getElementById("result");
  if (result === null) {
    location.assign(response.url);
    return;
  }
  document.getElementById("result").replaceWith(result);
  watch(result);
  (result.querySelector("[role=alert]") ?? result).focus({preventScroll: true});
  result.scrollIntoView({block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
}

/** A file and an example exclude each other; files are shown small, as far as the browser knows them. */
function chosen(form) {
  const files = form.querySelector("input[type=file]");
  const preview = form.querySelector(".preview");
  const examples = [...form.querySelectorAll("input[name=sample]")];
  const prompt = form.querySelector("textarea[name=prompt]");
  let brought = prompt?.value ?? "";
  files.addEventListener("change", () => {
    if (files.files.length) examples[0].checked = true;
    preview.replaceChildren(...[...files.files].map(shownFile));
  });
  for (const example of examples) {
    example.addEventListener("change", () => {
      if (example.value !== "") {
        files.value = "";
        preview.replaceChildren();
      }
      if (prompt && example.dataset.question && (prompt.value === "" || prompt.value === brought)) {
        prompt.value = brought = example.dataset.question;
      }
    });
  }
}

/** A picture of a chosen file, or its name where the browser cannot show it. */
function shownFile(file) {
  const image = document.createElement("img");
  image.alt = file.name;
  image.src = URL.createObjectURL(file);
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => {
    const name = document.createElement("span");
    name.textContent = `${file.name} (no preview)`;
    image.replaceWith(name);
  };
  return image;
}

/** Forms inside an element. */
function watch(inside) {
  for (const form of inside.querySelectorAll("form[data-ask]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask(form, event.submitter);
    });
    if (form.querySelector("input[type=file]")) chosen(form);
  }
}

/** Ask what is served until it can be asked. */
async function wait() {
  const standing = document.getElementById("standing");
  if (!["loading", "draining"].includes(standing?.dataset.status)) return;
  try {
    const page = new DOMParser().parseFromString(await (await fetch("/page/status")).text(), "text/html");
    const now = page.getElementById("standing");
    if (now) standing.replaceWith(now);
  } finally {
    setTimeout(wait, POLL_MILLISECONDS);
  }
}

watch(document);
setTimeout(wait, POLL_MILLISECONDS);
