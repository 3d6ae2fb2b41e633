// What makes the pages nicer to use: live parts, tips, trials on click. All of them are complete
// without it. Text from the server is only ever inserted as what the server's templates escaped.
"use strict";
(() => {
  const FRAGMENT = { "X-Fragment": "1" };
  const FINAL_STATES = ["done", "failed", "cancelled"];
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  const tip = document.getElementById("tip");

  async function fetchPage(address) {
    const answer = await fetch(address, { headers: FRAGMENT });
    if (answer.status === 401) location.reload();
    const text = await answer.text();
    return { ok: answer.ok, page: new DOMParser().parseFromString(text, "text/html") };
  }

  // --- theme -----------------------------------------------------------------------------------

  const THEMES = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme");

  function showTheme() {
    const theme = document.documentElement.dataset.theme || "system";
    themeButton.textContent = `Theme: ${theme}`;
    return theme;
  }

  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(showTheme()) + 1) % THEMES.length];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("theme", next);
    }
    showTheme();
  });
  showTheme();

  // --- live parts ------------------------------------------------------------------------------

  const PAUSE_MS = 700;
  let source = null;
  let refreshing = false;
  let refreshAgain = false;
  let ended = false;

  async function refresh() {
    if (refreshing) {
      refreshAgain = true;
      return;
    }
    refreshing = true;
    try {
      const { ok, page } = await fetchPage(location.href);
      if (ok) {
        for (const part of document.querySelectorAll("[data-live]")) replace(part, page.getElementById(part.id));
        mark(selected());
      }
    } catch {
      // The stream says that the server is away; the next event tries again.
    }
    await new Promise((done) => setTimeout(done, PAUSE_MS));
    refreshing = false;
    if (refreshAgain) {
      refreshAgain = false;
      refresh();
    }
  }

  function replace(part, fresh) {
    // A part that somebody is in stays until they have left it, as the focus would be lost.
    if (!fresh || part.innerHTML === fresh.innerHTML) return;
    if (part.contains(document.activeElement) && document.activeElement.closest(".plot, form")) {
      const plot = part.querySelector(".plot:focus svg");
      const freshPlot = plot && fresh.querySelector(`#${CSS.escape(plot.closest("figure").id)} .plot svg`);
      if (freshPlot) plot.innerHTML = freshPlot.innerHTML;
      return;
    }
    part.replaceChildren(...fresh.childNodes);
  }

  function say(text, kind) {
    live.textContent = text;
    live.className = kind;
  }

  function connect() {
    const address = main.dataset.events;
    if (!address || ended || source) return;
    source = new EventSource(address);
    source.addEventListener("open", () => say("live", "on"));
    source.addEventListener("error", () => say("reconnecting", "off"));
    source.addEventListener("change", refresh);
    source.addEventListener("trial", refresh);
    source.addEventListener("best", refresh);
    source.addEventListener("state", (event) => {
      refresh();
      if (FINAL_STATES.includes(JSON.parse(event.data).state)) {
        // The stream is over; a browser would open it again and again.
        ended = true;
        disconnect();
        say("ended", "");
      }
    });
  }

  function disconnect() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    // A browser opens few connections to a server: pages that nobody sees leave theirs to others.
    if (document.hidden) disconnect();
    else if (main.dataset.events && !ended) {
      connect();
      refresh();
    }
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  // --- trials ----------------------------------------------------------------------------------

  function selected() {
    return new URL(location.href).searchParams.get("trial");
  }

  function mark(id) {
    for (const old of document.querySelectorAll(".mark.selected")) old.classList.remove("selected");
    if (!id) return;
    for (const found of document.querySelectorAll(`.mark[data-trial="${CSS.escape(id)}"]`)) {
      found.classList.add("selected");
      found.parentNode.append(found);
    }
  }

  async function select(id, { push = true } = {}) {
    const address = new URL(location.href);
    address.searchParams.set("trial", id);
    address.hash = "";
    if (push) history.replaceState(null, "", address);
    mark(id);
    const { page } = await fetchPage(main.dataset.trials + encodeURIComponent(id));
    // Meanwhile another one may have been chosen.
    if (selected() === id) document.getElementById("trial").replaceChildren(...page.body.childNodes);
  }

  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-trial]");
    if (!chosen || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    select(chosen.dataset.trial);
    if (chosen.matches("a")) document.getElementById("trial").scrollIntoView({ block: "nearest" });
  });

  document.addEventListener("keydown", (event) => {
    const plot = event.target.closest?.(".plot[tabindex]");
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!plot || !step) return;
    event.preventDefault();
    const marks = [...plot.querySelectorAll("[data-trial]")];
    const order = (one) => parseFloat(one.getAttribute("x"));
    marks.sort((one, other) => order(one) - order(other));
    const now = marks.findIndex((one) => one.dataset.trial === selected());
    const next = now < 0 ? (step > 0 ? 0 : marks.length - 1) : now + step;
    if (marks[next]) {
      select(marks[next].dataset.trial);
      showTip(marks[next], marks[next].getBoundingClientRect());
    }
  });

  // --- tips ------------------------------------------------------------------------------------

  function showTip(element, box) {
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 6)}px`;
  }

  document.addEventListener("pointerover", (event) => {
    const element = event.target.closest?.("[data-tip]");
    if (element) showTip(element, element.getBoundingClientRect());
    else tip.hidden = true;
  });
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);

  // --- parts that are fetched when they are opened ---------------------------------------------

  for (const details of document.querySelectorAll("details[data-fragment]")) {
    details.addEventListener("toggle", async () => {
      const place = details.querySelector(".fragment");
      if (!details.open || place.dataset.filled) return;
      place.dataset.filled = "1";
      place.textContent = "Writing the program…";
      try {
        const { ok, page } = await fetchPage(details.dataset.fragment);
        const problem = page.querySelector(".problem");
        if (ok) place.replaceChildren(...page.body.childNodes);
        else place.textContent = problem ? problem.textContent : "It cannot be written now.";
        if (!ok) delete place.dataset.filled;
      } catch {
        place.textContent = "The server does not answer; close this and open it again.";
        delete place.dataset.filled;
      }
    });
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copying is not allowed here";
    }
  });

  // --- filters ---------------------------------------------------------------------------------

  for (const form of document.querySelectorAll("form.filters")) {
    form.addEventListener("submit", () => {
      // Addresses are for sharing: what does not filter is left out of them.
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    });
    form.addEventListener("change", (event) => {
      if (event.target.matches("select") && form.reportValidity()) form.requestSubmit();
    });
  }
  // Back from another page, a browser shows the form as it was sent.
  addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form.filters :disabled")) field.disabled = false;
  });

  // --- signing in and out ----------------------------------------------------------------------

  function post(address, body) {
    return fetch(address, { method: "POST", headers: { ...FRAGMENT, "Content-Type": "application/json" }, body });
  }

  const signIn = document.getElementById("sign-in");
  if (signIn) {
    // A link from another site brings no cookie along, though there may be one.
    fetch("/session", { headers: FRAGMENT }).then((answer) => {
      if (answer.status === 204) location.replace(signIn.dataset.next);
    });
    signIn.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answer = await post("/sign-in", JSON.stringify({ token: signIn.elements.token.value }));
      if (answer.ok) {
        location.replace(signIn.dataset.next);
        return;
      }
      const problem = document.getElementById("sign-in-problem");
      problem.textContent = answer.status === 401 ? "The token is not known." : "The token may not read.";
      problem.hidden = false;
    });
  }
  document.getElementById("sign-out")?.addEventListener("click", async () => {
    await post("/sign-out");
    location.assign("/sign-in");
  });
})();
