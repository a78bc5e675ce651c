// Put into a page before its own scripts: counts what comes over websockets, and notes when an answer appears.
// All times are performance.now() of the page, so no clock is compared with another. DOM commit, not photons: a frame
// (up to 16.7 ms) comes on top.
(() => {
  const clock = { enter: null, first: null, whole: null, updates: 0, bytes: 0, observer: null, ended: null };
  const size = data => (typeof data === "string" ? data.length : data.byteLength ?? data.size ?? 0);
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", event => { clock.bytes += size(event.data); });
    }
  };

  // Text in the answers that are there now is no sign of the next one: only what comes beside it counts.
  clock.arm = (selector, last) => {
    const texts = () => [...document.querySelectorAll(selector)].map(part => part.textContent).join("\n");
    const before = texts();
    let shown = before;
    Object.assign(clock, { enter: null, first: null, whole: null, updates: 0, bytes: 0 });
    let end;
    clock.ended = new Promise(resolve => { end = resolve; });
    clock.observer?.disconnect();
    clock.observer = new MutationObserver(() => {
      if (clock.enter === null) return;
      const now = texts();
      if (now === shown) return;
      shown = now;
      const added = now.startsWith(before) ? now.slice(before.length) : now;
      if (!added.trim()) return;
      clock.updates += 1;
      clock.first ??= performance.now() - clock.enter;
      if (last !== null && added.trimEnd().endsWith(last)) clock.whole ??= performance.now() - clock.enter;
      if (last === null || clock.whole !== null) end();
    });
    clock.observer.observe(document.documentElement, { childList: true, subtree: true, characterData: true });
  };
  // Settles when the answer is there: its last token where that is known, else its first.
  clock.answered = limit => Promise.race([
    clock.ended,
    new Promise((_, refuse) => setTimeout(() => refuse(new Error("no answer in time")), limit)),
  ]);
  clock.read = () => ({ first: clock.first, whole: clock.whole, updates: clock.updates, bytes: clock.bytes });

  window.addEventListener("keydown", event => {
    if (event.key === "Enter" && clock.enter === null) clock.enter = performance.now();
  }, true);
  window.loupeClock = clock;
})();
