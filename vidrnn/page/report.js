// What moves in the report: time lines that zoom, clips that play, commands that are copied. It asks nobody for anything.
(() => {
  "use strict";
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const say = (text) => { document.getElementById("said").textContent = text; };

  // A page is the same whenever it is made; only the browser knows what day it is for who reads it.

  const age = document.getElementById("age"), hours = age ? (Date.now() - Date.parse(age.dataset.end)) / 3600000 : 0;
  if (hours > 25) {  // a day, and an hour to write and to take in
    const days = Math.floor(hours / 24);
    age.textContent = `That is ${days} day${days > 1 ? "s" : ""} ago: no camera has given footage since, or this page is old.`;
    age.hidden = false;
  }

  // Time lines: a part of the drawing is shown, [from, from + length) of the line, both as shares of it.

  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const LABEL = 72, DATED = 96, NUMBER = 28;  // pixels that a time, one with its date, and the number of an event take
  const two = (number) => String(number).padStart(2, "0");
  const clock = (second, withSeconds) => {
    const whole = Math.floor(second) % 86400;
    const text = `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}`;
    return withSeconds ? `${text}:${two(whole % 60)}` : text;
  };
  const inFile = (second) => second < 3600
    ? `${Math.floor(second / 60)}:${two(Math.floor(second) % 60)}`
    : `${Math.floor(second / 3600)}:${two(Math.floor(second / 60) % 60)}:${two(Math.floor(second) % 60)}`;

  const lines = all(".timeline").map((root) => {
    const total = Number(root.dataset.seconds), { files, bars, night, scale: [bottom, top, unit], lane, threshold } = JSON.parse(root.dataset.facts);
    const view = root.querySelector(".view"), svg = root.querySelector("svg"), ticks = root.querySelector(".ticks");
    const zoom = root.querySelector(".zoom"), shown = root.querySelector(".range-shown");
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const marks = all(".marks a", root).sort((a, b) => a.dataset.event - b.dataset.event);
    const least = Math.min(1, 5 / total);
    let from = 0, length = 1;

    const at = (second) => {
      const file = files.findLast((one) => one[0] <= second) ?? files[0], inside = clamp(second - file[0], 0, file[1]);
      if (file[2] === null) return [file[4], inFile(inside)];
      const days = Math.floor((file[2] + inside) / 86400);
      const date = new Date(Date.parse(file[3]) + 86400000 * days).toISOString().slice(0, 10);
      return [date, clock(file[2] + inside, true)];
    };
    const tell = (one, other) => one[0] === other[0] ? `${one[0]} ${one[1]} – ${other[1]}` : `${one.join(" ")} – ${other.join(" ")}`;

    // What the line shows at a moment: the highest score within two pixels, as the eye has it. The drawing holds it.
    const low = Math.asinh(bottom / unit), high = Math.asinh(top / unit);
    let curve = null;  // is read when it is first needed: the page opens sooner
    const readCurve = () => [...svg.querySelector("path[style*='--curve']").getAttribute("d").matchAll(/([\d.-]+) ([\d.-]+)/g)].map(([, x, y]) => {
      const up = (lane[1] - y) / (lane[1] - lane[0]);
      return { second: x / width * total, score: unit * Math.sinh(low + up * (high - low)), height: y / height };
    });
    const reading = root.querySelector(".reading"), [dot, tip] = reading.children;
    const tenths = (score) => score.toFixed(Math.abs(score) < 1 ? 2 : Math.abs(score) < 10 ? 1 : 0).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
    let moment = 0;  // seconds on the line
    const read = (second) => {
      curve ??= readCurve();
      moment = clamp(second, 0, total);
      const reach = 2 * length * total / Math.max(view.clientWidth, 1);
      const near = curve.filter((point) => Math.abs(point.second - moment) <= reach);
      const file = files.findLast((one) => one[0] <= moment) ?? files[0];
      let shown = near.length ? near.reduce((best, point) => point.score > best.score ? point : best) : null;
      if (!shown && moment <= file[0] + file[1]) {  // between two points, on the line that joins them
        const k = curve.findIndex((point) => point.second > moment), one = curve[k - 1], other = curve[k];
        if (one && other && one.second >= file[0]) {
          const share = (moment - one.second) / (other.second - one.second), mix = (name) => one[name] + share * (other[name] - one[name]);
          shown = { second: moment, score: mix("score"), height: mix("height") };
        }
      }
      const lines = [at(moment).join(" ")];
      if (shown) {
        lines.push(`score ${tenths(shown.score)}${threshold !== null && shown.score > threshold ? ", an alarm" : ""}`);
        for (const mark of marks)
          if (Math.abs(mark.dataset.at * total - moment) <= mark.dataset.seconds / 2 + reach) lines.push(`event ${mark.dataset.event}`);
        const bar = bars.find(([start, stop]) => start <= moment && moment < stop);
        if (bar) lines.push(`${bar[2].toLocaleString("en")} objects an hour`);
      } else lines.push("no footage");
      const place = ((shown?.second ?? moment) / total - from) / length;
      reading.style.left = `${100 * place}%`;
      reading.classList.toggle("away", place < 0 || place > 1);
      reading.classList.toggle("late", place > 0.5);
      dot.hidden = !shown;
      dot.style.top = `${100 * (shown?.height ?? 0)}%`;
      tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("span"), { textContent: line })));
      reading.setAttribute("aria-valuenow", moment.toFixed(1));
      reading.setAttribute("aria-valuetext", lines.join(", "));
    };
    reading.hidden = false;

    const draw = () => {
      svg.setAttribute("viewBox", `${from * width} 0 ${length * width} ${height}`);
      const pixels = view.clientWidth, x = (share) => (share - from) / length * pixels;
      const taken = [];
      for (const mark of marks) {
        const place = x(Number(mark.dataset.at));
        mark.hidden = place < 0 || place > pixels || taken.some((other) => Math.abs(other - place) < NUMBER);
        mark.style.left = `${place / pixels * 100}%`;
        if (!mark.hidden) taken.push(place);
      }
      const ends = [at(from * total), at((from + length) * total)];
      const dated = files.every((one) => one[3]) && ends[0][0] !== ends[1][0], room = dated ? DATED : LABEL;
      const step = STEPS.find((one) => one / total / length * pixels >= room) ?? 86400;
      const starts = [], others = [];
      for (const [start, seconds, second] of files) {
        if ((start + seconds) / total < from || start / total > from + length) continue;
        const zero = second ?? 0;
        const write = (offset, withSeconds) => second === null
          ? inFile(offset)
          : (dated ? `${at(start + offset)[0].slice(5)} ` : "") + clock(zero + offset, withSeconds);
        starts.push([x(start / total), write(0, zero % 60 > 0 || step < 60)]);
        const first = Math.max(0, (from * total - start));
        for (let one = Math.ceil((zero + first) / step) * step; one - zero <= seconds; one += step) {
          const place = x((start + one - zero) / total);
          if (place > pixels) break;
          others.push([place, write(one - zero, step < 60)]);
        }
      }
      const written = [];
      for (const [place, text] of [...starts, ...others]) {
        const middle = clamp(place, room / 2 - 8, pixels - room / 2 + 8);  // none sticks out at a side
        if (place < -1 || place > pixels || written.some((other) => Math.abs(other[0] - middle) < room)) continue;
        written.push([middle, text]);
      }
      ticks.replaceChildren(...written.map(([middle, text]) => {
        const tick = document.createElement("span");
        tick.textContent = text;
        tick.style.left = `${middle}px`;
        return tick;
      }));
      shown.textContent = tell(...ends);
      zoom.querySelector("[data-zoom=out]").disabled = zoom.querySelector("[data-zoom=all]").disabled = length >= 1;
      zoom.querySelector("[data-zoom=in]").disabled = length <= least;
      view.classList.toggle("zoomed", length < 1);
      if (curve) read(moment);
    };
    const show = (newFrom, newLength) => {
      length = clamp(newLength, least, 1);
      from = clamp(newFrom, 0, 1 - length);
      draw();
    };
    // `where` stays at its place: a share of what is shown.
    const scale = (factor, where = document.activeElement === reading ? clamp((moment / total - from) / length, 0, 1) : 0.5) => {
      const target = clamp(length * factor, least, 1);
      show(from + where * (length - target), target);
    };
    const pan = (share) => show(from + share * length, length);
    const lastNight = night ? [night[0] / total, (night[1] - night[0]) / total] : [0, 1];
    [from, length] = lastNight;
    zoom.querySelector("[data-zoom=night]").hidden = !night;

    zoom.hidden = false;
    zoom.addEventListener("click", (event) => {
      const how = event.target.dataset.zoom;
      if (how === "in") scale(0.5);
      if (how === "out") scale(2);
      if (how === "all") show(0, 1);
      if (how === "night") show(...lastNight);
    });
    const KEYS = {
      "+": () => scale(0.5), "=": () => scale(0.5), "-": () => scale(2), "_": () => scale(2), "0": () => show(0, 1),
      ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), Home: () => show(0, length), End: () => show(1, length),
    };
    view.addEventListener("keydown", (event) => {
      if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    const STRIDES = {
      ArrowLeft: -4, ArrowDown: -4, ArrowRight: 4, ArrowUp: 4, PageDown: -60, PageUp: 60, Home: -Infinity, End: Infinity,
    };  // pixels; to the ends of what is shown
    reading.addEventListener("focus", () => read(clamp(moment, from * total, (from + length) * total)));
    reading.addEventListener("keydown", (event) => {
      if (!STRIDES[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const pixels = STRIDES[event.key] * (event.shiftKey ? 10 : 1);
      const target = clamp(moment / total + pixels / view.clientWidth * length, ...(Number.isFinite(pixels) ? [0, 1] : [from, from + length]));
      if (target < from || target > from + length) show(target - length / 2, length);
      read(target * total);
    });
    const share = (x) => {
      const box = view.getBoundingClientRect();
      return clamp((x - box.left) / box.width, 0, 1);
    };
    view.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.metaKey) scale(1.0015 ** event.deltaY, share(event.clientX));
      else if (length < 1 && Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / view.clientWidth);
      else return;
      event.preventDefault();
    }, { passive: false });
    view.addEventListener("dblclick", (event) => scale(event.shiftKey ? 3 : 1 / 3, share(event.clientX)));

    const point = (event) => {
      read((from + share(event.clientX) * length) * total);
      reading.classList.add("shown");
    };
    view.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") reading.classList.remove("shown");
    });
    const fingers = new Map();  // where each pointer that is down was last
    view.addEventListener("pointerdown", (event) => {
      if (event.target.closest("a") || event.button > 0) return;
      point(event);
      fingers.set(event.pointerId, event.clientX);
      view.setPointerCapture(event.pointerId);
    });
    view.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) {
        if (event.pointerType === "mouse") point(event);
        return;
      }
      const before = [...fingers.values()], was = fingers.get(event.pointerId);
      fingers.set(event.pointerId, event.clientX);
      const now = [...fingers.values()];
      if (now.length === 1) pan((was - event.clientX) / view.clientWidth);
      if (now.length === 2 && now[0] !== now[1] && before[0] !== before[1])
        scale(Math.abs((before[0] - before[1]) / (now[0] - now[1])), share((now[0] + now[1]) / 2));
      point(event);
    });
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, (event) => fingers.delete(event.pointerId));

    new ResizeObserver(draw).observe(view);
    return { root, view, marks, total, show };
  });

  for (const line of all(".on-line")) line.hidden = false;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show]");
    if (!button) return;
    for (const { root, view, marks, total, show } of lines) {
      const mark = marks.find((one) => one.dataset.event === button.dataset.show);
      if (!mark) continue;
      const length = Math.min(1, Math.max(60, 6 * Number(mark.dataset.seconds)) / total);
      show(Number(mark.dataset.at) - length / 2, length);
      root.closest(".camera").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
      view.focus({ preventScroll: true });
    }
  });

  // Clips: a video has a source only while it is to play, so that a page of hundreds stays light.

  const sources = new WeakMap(), stopped = new WeakSet();  // the latter by hand
  const parts = (video) => {
    const stage = video.closest(".stage");
    return { stage, button: stage.querySelector(".play"), boxes: all(".moving", stage) };
  };
  const follow = (video) => {
    const { stage, boxes } = parts(video);
    const paths = boxes.map((box) => box.dataset.boxes.split(";").map((one) => one.split(" ").map(Number)));
    const move = () => {
      if (!stage.classList.contains("playing")) return;
      const time = video.currentTime + 0.05;
      boxes.forEach((box, k) => {
        const place = paths[k].findLast((one) => one[0] <= time);
        const there = place && time - place[0] < Number(box.dataset.lasts);
        ["x", "y", "width", "height"].forEach((name, n) => box.setAttribute(name, there ? place[n + 1] : 0));
      });
      requestAnimationFrame(move);
    };
    move();
  };
  const stop = (video) => {
    const { stage, button } = parts(video);
    stage.classList.remove("playing");
    button.setAttribute("aria-pressed", "false");
    video.pause();
    video.removeAttribute("src");
    video.load();
  };
  const play = (video) => {
    const { stage, button } = parts(video);
    if (stage.classList.contains("playing")) return;
    video.src = sources.get(video);
    button.setAttribute("aria-pressed", "true");
    video.play().then(() => {
      if (button.getAttribute("aria-pressed") !== "true") return;
      stage.classList.add("playing");
      follow(video);
    }, (error) => {
      button.setAttribute("aria-pressed", "false");
      if (error.name === "NotSupportedError") say("This browser cannot play H.264 clips.");
    });
  };

  const clips = all("video.clip");
  const choice = document.querySelector(".all-clips");
  const onSight = choice?.querySelector("button");
  const seen = new Set();
  const wanted = () => onSight.getAttribute("aria-pressed") === "true";
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        seen.add(target);
        if (wanted() && !stopped.has(target)) play(target);
      } else {
        seen.delete(target);
        if (parts(target).button.getAttribute("aria-pressed") === "true") stop(target);
      }
    }
  }, { threshold: 0.6 });
  for (const video of clips) {
    sources.set(video, video.src);
    video.removeAttribute("src");
    parts(video).button.addEventListener("click", ({ currentTarget }) => {
      if (currentTarget.getAttribute("aria-pressed") === "true") {
        stopped.add(video);
        stop(video);
      } else {
        stopped.delete(video);
        play(video);
      }
    });
  }
  if (clips.length) {
    choice.hidden = false;
    onSight.setAttribute("aria-pressed", String(!calm.matches));
    onSight.addEventListener("click", () => {
      onSight.setAttribute("aria-pressed", String(!wanted()));
      for (const video of seen) (wanted() ? play : stop)(video);
    });
    for (const video of clips) watcher.observe(video);
  }

  // Commands

  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // as where a page from a file may not
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
      getSelection().removeAllRanges();
    }
  };
  for (const button of all(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(button.parentElement.querySelector("code"));
      say("Copied.");
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // A link into what is folded opens it.

  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target?.closest("details");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
