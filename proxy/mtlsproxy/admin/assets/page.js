"use strict";
// Keeps the page up to date. Everything shown is made of elements and text nodes: no string is ever read as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const AT_MOST_EVERY = 1000, AT_LEAST_EVERY = 10000, SAID_FOR = 2000;
  const root = document.getElementById("page");
  const status = root.querySelector(".connection");
  const pause = document.getElementById("pause");
  const find = document.getElementById("find");
  let paused = false, under_way = false, wanted = false, last = 0, timer = 0;

  const build = (tree) => {
    if (typeof tree === "string") return document.createTextNode(tree);
    const [tag, attributes, ...children] = tree;
    const svg = tag === "svg" || tag === "path";
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.map(build));
    return node;
  };

  const same = (node, tree) => typeof tree === "string"
    ? node.nodeType === Node.TEXT_NODE
    : node.nodeType === Node.ELEMENT_NODE && node.localName === tree[0] && node.id === (tree[1].id ?? "");

  // Changes what has changed and leaves the rest alone: focus, selection and scroll position stay where they are.
  const renew = (node, tree) => {
    if (typeof tree === "string") {
      if (node.data !== tree) node.data = tree;
      return;
    }
    const [, attributes, ...children] = tree;
    if ("data-live" in attributes) return; // this script's own
    for (const name of node.getAttributeNames()) if (!(name in attributes)) node.removeAttribute(name);
    for (const [name, value] of Object.entries(attributes)) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    const kept = new Set(children.map((child) => child[1]?.id));
    for (const child of [...node.children]) if (child.id && !kept.has(child.id)) child.remove();
    let at = node.firstChild;
    for (const child of children) {
      if (at && same(at, child)) {
        renew(at, child);
        at = at.nextSibling;
        continue;
      }
      const id = typeof child === "string" ? "" : child[1].id ?? "";
      const known = id && [...node.children].find((each) => each.id === id);
      if (known) {
        renew(known, child);
        node.insertBefore(known, at);
      } else {
        node.insertBefore(build(child), at);
        if (at && !at.id && !id) {
          const old = at;
          at = at.nextSibling;
          old.remove();
        }
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  // Of refusals and clients, those rows alone that have every word that is looked for.
  const sift = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of root.querySelectorAll("#refusals tbody tr, #clients tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  };

  const say = (words, kind) => {
    if (status.textContent !== words) status.textContent = words;
    status.className = `connection ${kind}`;
  };

  const refresh = async () => {
    timer = 0;
    if (under_way || paused || document.hidden) {
      wanted = true;
      return;
    }
    under_way = true;
    wanted = false;
    last = Date.now();
    try {
      const answer = await fetch("/page.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(`answered ${answer.status}`);
      const { title, page } = await answer.json();
      if (!paused) {
        document.title = title;
        renew(root, page);
        sift();
        say("Live", "good");
      }
    } catch {
      say("Not connected: what is shown may be old", "bad");
    } finally {
      under_way = false;
      if (wanted) soon();
    }
  };

  const soon = () => {
    if (!timer) timer = setTimeout(refresh, Math.max(0, last + AT_MOST_EVERY - Date.now()));
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    if (paused) say("Paused", "soon");
    else soon();
  });

  find.addEventListener("input", sift);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    let words = "Copied";
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch { // not allowed, or the page came over plain HTTP from elsewhere
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      words = "Selected";
    }
    button.textContent = words;
    setTimeout(() => { button.textContent = "Copy"; }, SAID_FOR);
  });

  document.addEventListener("visibilitychange", () => { if (wanted) soon(); });
  setInterval(soon, AT_LEAST_EVERY);

  const events = new EventSource("/api/events");
  for (const name of ["status", "traffic", "refusals"]) events.addEventListener(name, soon);
  events.addEventListener("open", () => { if (!paused) say("Live", "good"); });
  events.addEventListener("error", () => {
    if (!paused) say("Not connected: what is shown may be old", "bad");
  });
  document.documentElement.classList.add("js");
})();
