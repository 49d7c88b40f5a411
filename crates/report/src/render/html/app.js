// SPDX-License-Identifier: MIT OR Apache-2.0
// Draws the report. The data come by rkcov.index(), rkcov.names() and rkcov.file(), from scripts beside
// the page, or stand in the page itself. All text of the program that ran is escaped by esc().
'use strict';
(() => {
const $ = (q, at = document) => at.querySelector(q);
const $$ = (q, at = document) => [...at.querySelectorAll(q)];
const esc = s => String(s).replace(/[&<>"']/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'}[c]));
const digits = new Intl.NumberFormat('en-US');
const num = n => digits.format(n);
const many = (n, one) => num(n) + ' ' + one + (n === 1 ? '' : 's');
const MISSED = 0, RAN = 1, UNKNOWN = 2, ELSEWHERE = 3;
const SIGN = ['−', '+', '?', ''], CLASS = ['m', 'r', 'u', 'e'], WORD = ['did not run', 'ran', 'unknown', 'ran elsewhere'];

// ---- settings
let settings = {};
try { settings = JSON.parse(localStorage.getItem('rkcov') || '{}') || {}; } catch (e) { /* no storage */ }
const remember = change => {
  Object.assign(settings, change);
  try { localStorage.setItem('rkcov', JSON.stringify(settings)); } catch (e) { /* no storage */ }
};
const dark = matchMedia('(prefers-color-scheme: dark)');
const themed = () => document.documentElement.dataset.theme || (dark.matches ? 'dark' : 'light');
const turn = () => {
  const theme = themed() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  remember({theme});
  map();
  say(theme + ' theme');
};
const say = text => { $('#say').textContent = text; };

// ---- data
let ix, names, root, base = '', sets = [], now = {}, seen, sums = [], open = null;
const opened = new Map(), waiting = new Map();
const parts = text => text ? text.split(',').map(r => r.split('-').map(Number)).map(r => [r[0], r[r.length - 1]]) : [];
const members = ranges => ranges.flatMap(([a, b]) => Array.from({length: b - a + 1}, (_, i) => a + i));
const ranges = list => {
  const out = [];
  for (const n of list) {
    const last = out[out.length - 1];
    if (last && last[1] + 1 === n) last[1] = n; else out.push([n, n]);
  }
  return out.map(([a, b]) => a === b ? a : a + '-' + b).join(',');
};
const ran = pair => sets[ix.pairs[2 * pair]], maybe = pair => sets[ix.pairs[2 * pair + 1]];

// What the choice of streams says of every pair: the same rule as the command's.
function look(mask, only) {
  const meets = sets.map(set => set.some(([a, b]) => { for (let i = a; i <= b; i++) if (mask[i]) return true; return false; }));
  const within = sets.map(set => set.every(([a, b]) => { for (let i = a; i <= b; i++) if (!mask[i]) return false; return true; }));
  const of = new Uint8Array(ix.pairs.length / 2);
  for (let p = 0; p < of.length; p++) {
    const r = ix.pairs[2 * p], may = meets[ix.pairs[2 * p + 1]], none = !sets[r].length;
    of[p] = !only ? (meets[r] ? RAN : may ? UNKNOWN : MISSED)
      : meets[r] && within[r] ? RAN : none ? (may ? UNKNOWN : MISSED) : ELSEWHERE;
  }
  return of;
}
const blank = () => ({lr: 0, la: 0, fr: 0, fa: 0, un: 0, partial: false, files: 0});
const add = (to, s) => { for (const k of ['lr', 'la', 'fr', 'fa', 'un', 'files']) to[k] += s[k]; to.partial = to.partial || s.partial; return to; };
function sum(file) {
  const s = blank();
  s.partial = !file.c || now.only;
  const count = flat => {
    let r = 0, m = 0, u = 0;
    for (let i = 0; i < flat.length; i += 2) {
      const is = seen[flat[i]], n = flat[i + 1];
      if (is === RAN) r += n; else if (is === MISSED) m += n; else if (is === UNKNOWN) u += n;
    }
    return [r, s.partial ? r : r + m + u, u];
  };
  [s.lr, s.la, s.un] = count(file.l);
  [s.fr, s.fa] = count(file.f);
  s.files = 1;
  return s;
}
// Of all lines with code, unknown ones too; rounded down, and 0 is nothing: as in JSON.
const part = (r, all, partial) => partial || !all ? null : Math.max(Math.floor(r * 10000 / all), Math.min(r, 1)) / 100;
const percent = p => p === null ? '' : (Math.max(Math.floor(p * 10), p > 0 ? 1 : 0) / 10).toFixed(1) + ' %';
const full = s => !s.partial && s.lr === s.la && s.fr === s.fa;

function tree() {
  const paths = ix.files.map(f => f.p.split('/'));
  let shared = paths.length ? paths[0].slice(0, -1) : [];
  for (const p of paths) {
    let i = 0;
    while (i < shared.length && i < p.length - 1 && p[i] === shared[i]) i++;
    shared = shared.slice(0, i);
  }
  base = shared.length ? shared.join('/') + '/' : '';
  root = {name: base || '/', dirs: new Map(), files: [], path: '', open: true};
  paths.forEach((p, at) => {
    let dir = root;
    for (const name of p.slice(shared.length, -1)) {
      if (!dir.dirs.has(name)) dir.dirs.set(name, {name, dirs: new Map(), files: [], path: dir.path + name + '/', up: dir});
      dir = dir.dirs.get(name);
    }
    dir.files.push({name: p[p.length - 1], file: at, path: dir.path + p[p.length - 1], up: dir});
  });
  const shorten = dir => {
    dir.dirs = [...dir.dirs.values()].map(d => {
      shorten(d);
      if (!d.files.length && d.dirs.length === 1) {
        const inner = d.dirs[0];
        inner.name = d.name + '/' + inner.name;
        inner.up = dir;
        return inner;
      }
      return d;
    });
  };
  shorten(root);
  // As many levels are open as fit a screen.
  let level = [root], rows = 0;
  while (level.length) {
    const next = level.flatMap(d => d.dirs);
    rows += level.reduce((n, d) => n + d.dirs.length + d.files.length, 0);
    if (rows > 40 && level[0] !== root) break;
    level.forEach(d => { d.open = true; });
    level = next;
  }
}
function total(dir) {
  dir.sum = blank();
  dir.dirs.forEach(d => add(dir.sum, total(d)));
  dir.files.forEach(f => { f.sum = sums[f.file]; if (f.sum.la) add(dir.sum, f.sum); });
  return dir.sum;
}
function choose() {
  // Behind all others stands whoever ran something and was not recorded.
  const mask = new Uint8Array(ix.who.length + 1);
  now.list = now.who === null ? ix.who.map((_, i) => i) : members(parts(now.who)).filter(i => i < ix.who.length);
  now.list.forEach(i => { mask[i] = 1; });
  mask[ix.who.length] = now.who === null ? 1 : 0;
  now.mask = mask;
  seen = look(mask, now.only);
  sums = ix.files.map(sum);
  total(root);
}

// ---- who
const thread = w => (w.main ? 'main thread' : w.name || 'thread') + ' ' + w.tid;
const called = i => (ix.who[i].label ? ix.who[i].label + ' · ' : '') + thread(ix.who[i]);
const kind = () => ix.who.some(w => w.label) ? 'context' : 'thread';
// A thread has a stream for each context that it was in: streams are not what people count.
const NONE = 'no context';
const contextOf = w => w.label ? w.kind + ' ' + w.label : NONE;
const threadsOf = list => new Set(list.map(i => ix.who[i].thread)).size;
// Contexts of one kind and name are one here.
const contextsOf = list => new Set(list.map(i => contextOf(ix.who[i])).filter(c => c !== NONE)).size;
const counted = list => {
  const contexts = contextsOf(list), outside = threadsOf(list.filter(i => !ix.who[i].label));
  if (!contexts) return many(outside, 'thread');
  return many(contexts, 'context') + (outside ? ' and ' + many(outside, 'thread') + ' in no context' : '');
};
// Who ran something: a row for each context, with all that ran in it, and for each thread in no context.
const ranBy = list => {
  const by = new Map();
  for (const i of list) {
    const w = ix.who[i], key = w.label ? 'c' + contextOf(w) : 't' + w.thread;
    if (!by.has(key)) by.set(key, {name: w.label || thread(w), key, of: []});
    by.get(key).of.push(i);
  }
  return [...by.values()];
};
const whole = key => (key[0] === 'c' ? groups().find(g => g.key === key) : {of: ix.who.map((_, i) => i).filter(i => !ix.who[i].label && 't' + ix.who[i].thread === key)}).of;
const recorded = set => members(set).filter(i => i < ix.who.length);
const crowd = new Map();
const crowdOf = pair => {
  const set = ix.pairs[2 * pair];
  if (!crowd.has(set)) { const list = recorded(sets[set]); crowd.set(set, {n: ranBy(list).length, text: counted(list)}); }
  return crowd.get(set);
};
let grouped;
function groups() {
  if (grouped) return grouped;
  const by = new Map();
  const into = (key, name, note, i) => {
    if (!by.has(key)) by.set(key, {key, name, note, of: []});
    by.get(key).of.push(i);
  };
  const pids = new Set(ix.who.map(w => w.run + '/' + w.pid));
  const labels = kind() === 'context';
  ix.who.forEach((w, i) => { if (w.label) into('c' + contextOf(w), w.label, w.kind || 'context', i); });
  if (labels) ix.who.forEach((w, i) => { if (!w.label) into('c', NONE, 'what ran in no context', i); });
  if (ix.runs.length > 1) ix.who.forEach((w, i) => into('r' + w.run, ix.runs[w.run].name, 'trace', i));
  if (pids.size > 1) ix.who.forEach((w, i) => into('p' + w.run + '/' + w.pid, 'process ' + w.pid, w.command, i));
  const mains = ix.who.filter(w => w.main).length;
  if (mains && mains < ix.who.length) ix.who.forEach((w, i) => into(w.main ? '1' : '2', w.main ? 'main threads' : 'workers', w.main ? 'the first thread of each process' : 'all other threads', i));
  ix.who.forEach((w, i) => into('t' + w.thread, thread(w), (pids.size > 1 ? 'process ' + w.pid + ' · ' : '') + (labels ? '' : many(w.pcs, 'PC')) + (w.lossy ? (labels ? '' : ' · ') + 'records were lost' : ''), i));
  grouped = [...by.values()];
  return grouped;
}
function chosen() {
  if (now.who === null) return now.only ? 'Only these ran it' : 'Everything';
  const group = groups().find(g => ranges(g.of) === now.who);
  const name = group ? group.name : counted(now.list);
  return now.only ? 'Only ' + name : name;
}

// ---- places
const link = change => {
  const to = {file: now.file, line: null, who: now.who, only: now.only, ...change};
  const out = [];
  if (to.file) out.push('file=' + encodeURIComponent(to.file).replace(/%2F/g, '/'));
  if (to.line) out.push('line=' + to.line);
  if (to.who !== null && to.who !== undefined) out.push('who=' + to.who);
  else if (ix.first.who !== null) out.push('who=all');
  if (to.only !== ix.first.only) out.push('only=' + (to.only ? 1 : 0));
  return '#' + out.join('&');
};
const go = change => { location.hash = link(change); };
function read() {
  const at = {};
  for (const item of location.hash.slice(1).split('&')) {
    const cut = item.indexOf('=');
    if (cut > 0) { try { at[item.slice(0, cut)] = decodeURIComponent(item.slice(cut + 1)); } catch (e) { /* not ours */ } }
  }
  return {
    file: at.file || null,
    line: Number(at.line) || null,
    who: at.who === undefined ? ix.first.who : at.who === 'all' || !/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(at.who) ? null : at.who,
    only: at.only === undefined ? ix.first.only : at.only === '1',
  };
}
function route() {
  const next = read(), before = now;
  const filter = next.who !== before.who || next.only !== before.only || !seen;
  now = {...next, list: before.list, mask: before.mask};
  if (filter) choose();
  close();
  const who = $('#who');
  who.textContent = chosen();
  who.classList.toggle('on', now.who !== null || now.only);
  who.setAttribute('aria-label', 'Who ran it: ' + chosen());
  if (now.file === null) { open = null; overview(); return; }
  const at = fileAt(now.file);
  if (at < 0) { $('#main').innerHTML = '<p class="wait">There is no file <code>' + esc(now.file) + '</code> in this report. <a href="' + link({file: null}) + '">All files</a></p>'; return; }
  if (open && open.at === at && !filter) { if (now.line) show(now.line, true); return; }
  const top = open && open.at === at && !now.line ? scrollY : 0;
  load(at, data => { source(at, data); if (!now.line) scrollTo(0, top); });
}
const fileAt = path => ix.files.findIndex(f => f.p === base + path || f.p === path);
const shown = at => ix.files[at].p.startsWith(base) ? ix.files[at].p.slice(base.length) : ix.files[at].p;

// ---- data of files
function load(at, then) {
  if (opened.has(at)) { then(opened.get(at)); return; }
  const block = document.getElementById('data-f' + at);
  if (block) { rkcov.file(at, JSON.parse(block.textContent)); then(opened.get(at)); return; }
  if (waiting.has(at)) { waiting.get(at).push(then); return; }
  waiting.set(at, [then]);
  script('data/f' + at + '.js', () => {
    waiting.delete(at);
    $('#main').innerHTML = '<p class="wait">data/f' + at + '.js cannot be read: it belongs beside this page.</p>';
  });
}
function script(src, failed) {
  const s = document.createElement('script');
  s.src = src;
  s.onerror = failed;
  document.head.append(s);
}
function wanted(then) {
  if (names) { then(); return; }
  const block = document.getElementById('data-names');
  if (block) { names = JSON.parse(block.textContent); then(); return; }
  rkcov.named = then;
  script('data/names.js', () => { names = []; then(); });
}
window.rkcov = {
  index(data) { ix = data; begin(); },
  names(data) { names = data; if (rkcov.named) rkcov.named(); },
  file(at, data) {
    const lines = [];
    let line = 0;
    for (let i = 0; i < data.l.length; i += 3) { line += data.l[i]; lines.push([line, data.l[i + 1], data.l[i + 2]]); }
    data.lines = lines;
    opened.set(at, data);
    const then = waiting.get(at) || [];
    waiting.delete(at);
    then.forEach(f => f(data));
  },
};

// ---- overview
const meter = s => {
  const p = part(s.lr, s.la, s.partial);
  return p === null ? '' : '<span class="meter" aria-hidden="true"><i style="width:' + p + '%"></i></span>';
};
const ratio = (r, all, partial) => partial ? num(r) : num(r) + '<span class="of"> / ' + num(all) + '</span>';
const cells = s => '<td class="bar">' + meter(s) + '</td><td class="n">' + percent(part(s.lr, s.la, s.partial)) +
  '</td><td class="n">' + ratio(s.lr, s.la, s.partial) + '</td><td class="n">' + ratio(s.fr, s.fa, s.partial) +
  '</td><td class="n q">' + (s.un ? num(s.un) : '') + '</td>';
const COLUMNS = [['name', 'Name'], ['', ''], ['p', 'Lines'], ['l', 'Ran'], ['f', 'Functions'], ['u', 'Unknown']];
const UNKNOWN_WHY = 'There is code on these lines, but nothing that was recorded tells whether it ran: for instance behind a call ' +
  'that may not have come back. They are among the lines with code, not among those that ran.';

function order(list) {
  const [key, down] = settings.sort || ['name', false];
  const of = {
    p: n => { const p = part(n.sum.lr, n.sum.la, n.sum.partial); return p === null ? -1 : p; },
    l: n => n.sum.lr, f: n => n.sum.fr, u: n => n.sum.un,
  }[key];
  const by = of ? (a, b) => of(a) - of(b) || (a.name < b.name ? -1 : 1) : (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
  return [...list].sort((a, b) => down ? by(b, a) : by(a, b));
}
let rows = [];
function flatten() {
  rows = [];
  const keep = n => n.sum.la && !(settings.hide && full(n.sum));
  if (settings.flat) {
    const all = [];
    const walk = dir => { all.push(...dir.files); dir.dirs.forEach(walk); };
    walk(root);
    order(all.filter(keep).map(f => ({...f, name: f.path, real: f}))).forEach(f => leaf(f.real, 1, f.path));
    return;
  }
  const walk = (dir, level) => {
    for (const d of order(dir.dirs.filter(keep))) {
      rows.push({node: d, level, name: d.name + '/', open: !!d.open});
      if (d.open) walk(d, level + 1);
    }
    for (const f of order(dir.files.filter(keep))) leaf(f, level, f.name);
  };
  walk(root, 1);
}
function leaf(f, level, name) {
  rows.push({node: f, level, name, open: !!f.open, href: link({file: f.path})});
  if (!f.open || !f.functions) return;
  const functions = f.functions().filter(n => n.sum.fa && !(settings.hide && n.sum.fr && full(n.sum)));
  for (const fn of order(functions)) rows.push({node: fn, level: level + 1, name: fn.name, leaf: true, href: link({file: f.path, line: fn.line})});
}
// Functions of a file with the sums of their lines, which are sorted.
function inner(data, file) {
  const from = line => {
    let low = 0, high = data.lines.length;
    while (low < high) { const mid = low + high >> 1; if (data.lines[mid][0] < line) low = mid + 1; else high = mid; }
    return low;
  };
  return data.f.map(([name, first, last, pair, count]) => {
    const s = blank(), is = seen[pair];
    s.partial = !file.c || now.only;
    s.fa = is === RAN || (is === MISSED || is === UNKNOWN) && !s.partial ? 1 : 0;
    s.fr = is === RAN ? 1 : 0;
    for (let i = from(first); i < data.lines.length && data.lines[i][0] <= last; i++) {
      const l = seen[data.lines[i][1]];
      if (l === RAN) s.lr++; else if (l === UNKNOWN) s.un++;
      if (l === RAN || (l === MISSED || l === UNKNOWN) && !s.partial) s.la++;
    }
    return {name, line: first, last, sum: s, is, count};
  });
}
function body() {
  flatten();
  return rows.map((row, i) => {
    const expands = !row.leaf, label = row.href
      ? '<a tabindex="-1" href="' + esc(row.href) + '">' + esc(row.name) + '</a>' : '<span>' + esc(row.name) + '</span>';
    const sign = row.leaf ? '<span class="fs ' + CLASS[row.node.is] + '" title="' + WORD[row.node.is] + '">' + SIGN[row.node.is] + '</span>' : '';
    return '<tr data-i="' + i + '" data-path="' + esc(row.node.path || '') + '" aria-level="' + row.level + '" tabindex="' + (i ? -1 : 0) + '"' +
      (expands ? ' aria-expanded="' + row.open + '"' : '') + ' class="' + (row.leaf ? 'fn' : row.node.dirs ? 'dir' : 'file') + '">' +
      '<td class="name" style="--level:' + (row.level - 1) + '">' + (expands ? '<span class="twist" aria-hidden="true"></span>' : '') + sign + label + '</td>' + cells(row.node.sum) + '</tr>';
  }).join('');
}
function overview() {
  const s = root.sum, [key, down] = settings.sort || ['name', false];
  const big = (title, r, k, word) => {
    const p = part(r, k, s.partial);
    return '<div class="card"><h2>' + title + '</h2><p class="big">' + (p === null ? num(r) : percent(p)) + '</p>' +
      (p === null ? '' : '<span class="meter" aria-hidden="true"><i style="width:' + p + '%"></i></span>') +
      '<p class="small">' + (p === null ? word + (now.only ? ' that ran nowhere else' : ' that ran') : num(r) + ' of ' + num(k) + ' ran') + '</p></div>';
  };
  const command = ix.runs.map(r => '<code>' + esc(r.command.join(' ') || r.name) + '</code>').slice(0, 3).join('<br>') +
    (ix.runs.length > 3 ? '<br>and ' + many(ix.runs.length - 3, 'more trace') : '');
  $('#main').innerHTML = '<h1 class="quiet">Coverage of ' + esc(ix.title) + '</h1>' + banner() +
    ix.alarms.map(a => '<p class="alarm"><strong aria-hidden="true">!</strong> ' + esc(a) + '</p>').join('') +
    '<section class="cards" aria-label="Sums">' + big('Lines', s.lr, s.la, 'lines') + big('Functions', s.fr, s.fa, 'functions') +
    '<div class="card"><h2>Unknown lines</h2><p class="big unknown">' + num(s.un) + '</p><details class="small"><summary>What is that?</summary>' + UNKNOWN_WHY + '</details></div>' +
    '<div class="card run"><h2>What ran</h2><p>' + command + '</p><p class="small">' +
    many(threadsOf([...ix.who.keys()]), 'thread') + ' of ' + many(new Set(ix.who.map(w => w.run + '/' + w.pid)).size, 'process').replace('processs', 'processes') + (kind() === 'context' ? ', ' + many(new Set(ix.who.map(w => w.context).filter(c => c !== undefined)).size, 'context') : '') +
    (ix.mode === 'unique' ? ' · each place recorded once' : '') + '</p></div></section>' +
    '<section aria-labelledby="files-h"><div class="head"><h2 id="files-h">Files <span class="of" id="n-files"></span></h2><span class="tools">' +
    '<label><input type="checkbox" id="flat"' + (settings.flat ? ' checked' : '') + '> one list</label>' +
    '<label><input type="checkbox" id="hide"' + (settings.hide ? ' checked' : '') + '> hide fully covered</label>' +
    '<button type="button" id="expand">open all</button><button type="button" id="fold">close all</button></span></div>' +
    '<div class="wide"><table role="treegrid" aria-label="Folders, files and functions" id="tree"><thead><tr>' +
    COLUMNS.map(([k, t]) => k ? '<th scope="col" class="' + (k === 'name' ? 'name' : 'n') + '" aria-sort="' + (key === k ? (down ? 'descending' : 'ascending') : 'none') + '"><button type="button" data-sort="' + k + '">' + t + '</button></th>' : '<td class="bar"></td>').join('') +
    '</tr></thead><tbody id="rows"></tbody></table></div><p class="small base">' + (base ? 'below <code>' + esc(base) + '</code>' : '') +
    (ix.folded ? ' Folded: ' + esc(ix.folded) + '.' : '') + '</p></section>' + people();
  redraw();
}
function redraw(focus) {
  $('#rows').innerHTML = body() || '<tr><td colspan="6" class="none">' + (settings.hide && root.sum.la ? 'Everything here is fully covered.' : 'Nothing ran here.') + '</td></tr>';
  $('#n-files').textContent = num(root.sum.files);
  if (focus !== undefined) at(Math.min(focus, rows.length - 1));
}
function at(i) {
  const row = $('#rows').children[i];
  if (!row || !rows.length) return;
  $$('#rows [tabindex="0"]').forEach(r => { r.tabIndex = -1; });
  row.tabIndex = 0;
  row.focus({preventScroll: false});
}
function twist(i, to) {
  const node = rows[i].node;
  if (rows[i].leaf) return;
  const open = to === undefined ? !node.open : to;
  if (node.dirs || !open || node.functions) { node.open = open; redraw(i); return; }
  load(node.file, data => { node.functions = () => inner(data, ix.files[node.file]); node.open = true; redraw(i); });
}
function banner() {
  if (now.who === null && !now.only) return '';
  const text = now.only ? 'Only what ran on ' + esc(now.who === null ? 'these' : chosen().replace(/^Only /, '')) + ' and nowhere else.' : 'Only what ' + esc(chosen()) + ' ran.';
  return '<p class="banner"><span>' + text + '</span> <a href="' + link({who: null, only: false}) + '">Show everything</a>' +
    (now.who === null ? '' : ' <a href="' + link({only: !now.only}) + '">' + (now.only ? 'with what others ran, too' : 'what only these ran') + '</a>') + '</p>';
}
// Who ran how much, and how much of it nobody else did.
function people() {
  if (ix.who.length < 2) return '';
  const labels = kind() === 'context';
  const by = new Map();
  ix.who.forEach((w, i) => {
    const key = labels ? contextOf(w) : w.thread;
    if (!by.has(key)) by.set(key, {name: labels ? w.label || NONE : called(i), of: [], lines: 0, only: 0, pcs: 0});
    const g = by.get(key);
    g.of.push(i); g.pcs += w.pcs;
  });
  const list = [...by.values()], mine = [];
  list.forEach((g, at) => g.of.forEach(i => { mine[i] = at; }));
  const count = new Float64Array(ix.pairs.length / 2);
  ix.files.forEach(f => { for (let i = 0; i < f.l.length; i += 2) count[f.l[i]] += f.l[i + 1]; });
  count.forEach((n, pair) => {
    const set = ran(pair), known = recorded(set), at = new Set(known.map(i => mine[i]));
    at.forEach(g => { list[g].lines += n; if (at.size === 1 && known.length === members(set).length) list[g].only += n; });
  });
  list.sort((a, b) => b.lines - a.lines);
  const most = Math.max(1, list[0].lines), cut = settings.people ? list.length : 8;
  return '<section aria-labelledby="who-h"><div class="head"><h2 id="who-h">Who ran it <span class="of">' + counted([...ix.who.keys()]) + '</span></h2></div>' +
    '<div class="wide"><table class="people"><thead><tr><th scope="col">' + (labels ? 'Context' : 'Thread') + '</th><td class="bar"></td><th scope="col" class="n">Lines</th><th scope="col" class="n">Nobody else</th><th scope="col" class="n">PCs</th></tr></thead><tbody>' +
    list.slice(0, cut).map(g => '<tr><th scope="row"><a href="' + link({who: ranges(g.of), only: false}) + '">' + esc(g.name) + '</a></th><td class="bar"><span class="meter who" aria-hidden="true"><i style="width:' +
      100 * g.lines / most + '%"></i></span></td><td class="n">' + num(g.lines) + '</td><td class="n">' + (g.only ? '<a href="' + link({who: ranges(g.of), only: true}) + '" aria-label="' + many(g.only, 'line') + ' that only ' + esc(g.name) + ' ran">' + num(g.only) + '</a>' : '0') +
      '</td><td class="n">' + num(g.pcs) + '</td></tr>').join('') + '</tbody></table></div>' +
    (cut < list.length ? '<button type="button" id="more">show all ' + num(list.length) + '</button>' : '') + '</section>';
}

// ---- a file
// The functions of a file share the path of its module, or of most of it. Without it they can be told apart in a narrow
// list.
function shortened(all) {
  const paths = all.filter(name => !name.startsWith('<')).map(name => name.replace(/[<(].*/, '').split('::').slice(0, -1));
  let shared = paths.length ? paths[0] : [];
  for (const path of paths) {
    const end = shared.findIndex((part, i) => part !== path[i]);
    if (end >= 0) shared = shared.slice(0, end);
  }
  if (!shared.length) return name => name;
  const prefix = new RegExp('(^|[^\\w:])' + shared.join('::').replace(/[^\w:]/g, '\\$&') + '::', 'g');
  return name => name.replace(prefix, '$1');
}
const KEYWORDS = new Set(('auto break case const continue default do else enum extern for goto if inline register restrict return sizeof static struct switch typedef union volatile while ' +
  'asm class constexpr delete explicit friend namespace new noexcept nullptr operator private protected public template this throw try catch typename using virtual override final ' +
  'as async await crate dyn fn impl in let loop match mod move mut pub ref self Self super trait type unsafe use where true false NULL ' +
  'def elif except finally from global import lambda None nonlocal not and or pass raise True False with yield is func package var range defer select chan map interface go').split(' '));
const TYPES = new Set('void char short int long float double signed unsigned bool size_t ssize_t u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 str String Vec Option Result Box'.split(' '));
const C = /(\/\/.*|\/\*[^]*?(?:\*\/|$(?![^])))|(r#+"[^]*?"#+|"(?:\\[^]|[^"\\])*"|'(?:\\[^'\n]+|[^'\\\n])')|(^[ \t]*#[ \t]*[a-z]+\b|#!?\[[^\]\n]*\])|(\b\d[\w.]*)|([A-Za-z_]\w*)/gm;
const HASH = /(#.*)|("""[^]*?"""|"(?:\\[^]|[^"\\\n])*"|'(?:\\[^]|[^'\\\n])*')|(^[ \t]*@\w+)|(\b\d[\w.]*)|([A-Za-z_]\w*)/gm;
// Text as lines of markup. Done when a file is opened: it takes milliseconds, and makes reports no larger.
function lines(text, path) {
  const rule = /\.(py|sh|rb|pl|toml|cmake|mk)$/.test(path) ? HASH : C;
  let out = '', last = 0;
  for (const m of text.matchAll(rule)) {
    let kind = m[1] ? 'c' : m[2] ? 's' : m[3] ? 'p' : m[4] ? 'd' : '';
    if (m[5]) kind = KEYWORDS.has(m[5]) ? 'k' : TYPES.has(m[5]) || /_t$/.test(m[5]) ? 'y' : '';
    if (!kind) continue;
    out += esc(text.slice(last, m.index)) + '<b class="' + kind + '">' + esc(m[0]).replace(/\n/g, '</b>\n<b class="' + kind + '">') + '</b>';
    last = m.index + m[0].length;
  }
  const all = (out + esc(text.slice(last))).split('\n');
  if (all.length && all[all.length - 1] === '') all.pop();
  return all;
}
const CHUNK = 400, short = n => n < 1000 ? n : n < 1e6 ? (n / 1e3).toFixed(n < 1e4 ? 1 : 0) + 'k' : (n / 1e6).toFixed(n < 1e7 ? 1 : 0) + 'M';
function source(at, data) {
  const file = ix.files[at], path = shown(at), s = sums[at], complete = file.c && !now.only;
  const of = new Map();
  for (const [line, pair, count] of data.lines) {
    const is = seen[pair];
    if (is === MISSED && !complete) continue;
    of.set(line, {is, pair, count});
  }
  const text = data.t === null ? null : lines(data.t, path);
  const last = Math.max(text ? text.length : 0, ...data.lines.slice(-1).map(l => l[0]));
  const functions = inner(data, file).filter(f => f.line);
  open = {at, data, of, text, last, path, functions, line: 0, chunks: []};
  const counts = ix.mode === 'trace' && now.who === null && !now.only, people = ix.who.length > 1;
  const crumbs = path.split('/');
  const short = shortened(functions.map(f => f.name));
  const list = functions.map(f => '<li><a title="' + esc(f.name) + '" href="' + esc(link({file: path, line: f.line})) + '"><span class="fs ' + CLASS[f.is] + '" aria-hidden="true">' + (SIGN[f.is] || '·') + '</span><span class="fname">' + esc(short(f.name)) +
    '</span><span class="quiet">, ' + WORD[f.is] + '</span>' + '<span class="n">' + ratio(f.sum.lr, f.sum.la, f.sum.partial) + '</span></a></li>').join('');
  $('#main').innerHTML = '<div class="filehead"><nav aria-label="Path"><a href="' + esc(link({file: null})) + '">all files</a> <span class="of">/</span> ' +
    crumbs.slice(0, -1).map(c => '<span class="of">' + esc(c) + ' /</span> ').join('') + '<h1>' + esc(crumbs[crumbs.length - 1]) + '</h1></nav>' +
    '<span class="sum">' + meter(s) + ' <strong>' + percent(part(s.lr, s.la, s.partial)) + '</strong> ' + ratio(s.lr, s.la, s.partial) + ' lines · ' + ratio(s.fr, s.fa, s.partial) + ' functions' + (s.un ? ' · ' + num(s.un) + ' unknown' : '') + '</span>' +
    '<span class="tools"><button type="button" id="prev" title="Previous line that did not run (p)" aria-label="Previous line that did not run">↑</button><button type="button" id="next" title="Next line that did not run (n)" aria-label="Next line that did not run">↓</button> <span id="pos" class="of"></span></span></div>' +
    banner() + (data.t === null ? '<p class="alarm">The text of this file cannot be shown: ' + esc(data.w) + '</p>' : '') +
    '<div class="split"><div class="code' + (counts ? ' counts' : '') + (people ? ' people' : '') + '" role="table" aria-label="' + esc(path) + '" tabindex="0" id="code"></div>' +
    '<aside aria-labelledby="fn-h"><details ' + (innerWidth > 900 ? 'open' : '') + '><summary><h2 id="fn-h">Functions <span class="of">' + num(functions.length) + '</span></h2></summary><ul class="fns">' + (list || '<li class="of">none</li>') + '</ul></details>' +
    '<details class="legend"><summary><h2>Signs</h2></summary><dl><dt><span class="fs r">+</span></dt><dd>ran' + (people ? '; the number says how many ' + kind() + 's ran it' : '') + '</dd><dt><span class="fs m">−</span></dt><dd>did not run</dd><dt><span class="fs u">?</span></dt><dd>' + UNKNOWN_WHY + '</dd></dl></details></aside></div>' +
    '<canvas id="map" aria-hidden="true" width="12"></canvas>';
  $('.split').style.setProperty('--head', $('.filehead').offsetHeight + 'px');
  const code = $('#code');
  const row = line => {
    const has = of.get(line), cls = has ? CLASS[has.is] : '', word = has ? WORD[has.is] : 'no code';
    const {n, text: them} = has && people && has.is === RAN ? crowdOf(has.pair) : {n: 0};
    return '<div role="row" class="l ' + cls + '" id="L' + line + '"><a role="rowheader" class="ln" tabindex="-1" href="' + esc(link({file: path, line})) + '">' + line + '</a>' +
      (has && has.is !== ELSEWHERE ? '<span role="cell" class="sg"><span aria-hidden="true">' + SIGN[has.is] + '</span><span class="quiet">' + word + '</span></span>' : '<span role="cell" class="sg"></span>') +
      (counts ? '<span role="cell" class="ct">' + (has && has.is === RAN ? short(has.count) : '') + '</span>' : '') +
      (people ? '<span role="cell" class="wh">' + (n ? '<button type="button" tabindex="-1" data-l="' + line + '" aria-label="' + them + ' ran line ' + line + '">' + n + '</button>' : has && has.is !== RAN ? '<button type="button" tabindex="-1" data-l="' + line + '" aria-label="About line ' + line + '">·</button>' : '') + '</span>' : '') +
      '<code role="cell">' + (text ? text[line - 1] || '' : has ? '<span class="of">' + word + '</span>' : '') + '</code></div>';
  };
  const every = text ? null : data.lines.map(l => l[0]);
  const length = every ? every.length : last;
  for (let from = 0; from < length; from += CHUNK) {
    const to = Math.min(length, from + CHUNK), div = document.createElement('div');
    div.className = 'chunk';
    div.setAttribute('role', 'rowgroup');
    div.style.setProperty('--lines', to - from);
    let full = false;
    open.chunks.push({
      first: every ? every[from] : from + 1, last: every ? every[to - 1] : to,
      fill() {
        if (full) return;
        full = true;
        let out = '';
        for (let i = from; i < to; i++) out += row(every ? every[i] : i + 1);
        div.innerHTML = out;
      },
    });
    code.append(div);
  }
  const mine = open, rest = () => {
    if (open !== mine) return;
    const until = performance.now() + 12;
    for (const chunk of mine.chunks) { chunk.fill(); if (performance.now() > until) { setTimeout(rest, 4); return; } }
  };
  mine.chunks.slice(0, 2).forEach(c => c.fill());
  if (now.line) show(now.line, true);
  setTimeout(rest, 30);
  map();
  const missed = [...of.values()].filter(h => h.is === MISSED).length;
  $('#pos').textContent = complete ? missed ? many(missed, 'line') + ' did not run' : 'all known lines ran' : '';
  document.title = crumbs[crumbs.length - 1] + ' · ' + ix.title + ' · rkcov';
}
function show(line, focus) {
  const chunk = open.chunks.find(c => c.first <= line && line <= c.last);
  if (!chunk) return;
  chunk.fill();
  $$('.l.at').forEach(l => { l.classList.remove('at'); l.removeAttribute('aria-current'); });
  const row = $('#L' + line);
  open.line = line;
  if (!row) return;
  row.classList.add('at');
  row.setAttribute('aria-current', 'true');
  row.scrollIntoView({block: 'center'});
  if (focus) $('#code').focus({preventScroll: true});
  const has = open.of.get(line);
  say('line ' + line + (has ? ', ' + WORD[has.is] : ''));
}
function step(forward, wants) {
  const all = [...open.of.keys()];
  const hit = forward ? all.find(l => l > open.line && wants(l)) : all.reverse().find(l => l < (open.line || Infinity) && wants(l));
  if (hit) { history.replaceState(null, '', link({line: hit})); now.line = hit; show(hit, true); } else say('no more in this file');
}
// The first line of each run of lines of one kind.
const missed = line => { const is = open.of.get(line); const up = open.of.get(line - 1); return is.is === MISSED && !(up && up.is === MISSED); };
const unsure = line => { const is = open.of.get(line); const up = open.of.get(line - 1); return is.is === UNKNOWN && !(up && up.is === UNKNOWN); };
const changes = line => {
  const all = open.order || (open.order = [...open.of.keys()]);
  const i = all.indexOf(line);
  return i > 0 && ix.pairs[2 * open.of.get(line).pair] !== ix.pairs[2 * open.of.get(all[i - 1]).pair];
};
function neighbour(by) {
  const list = rowsOfFiles();
  // Not `open` nor `now`: the file that was asked for last may still be loading, or the browser is about to tell us of it.
  const { file } = read(), at = fileAt(file);
  const to = list[file !== null ? list.indexOf(at < 0 ? file : shown(at)) + by : by > 0 ? 0 : list.length - 1];
  if (to) go({file: to}); else say('no more files');
}
function rowsOfFiles() {
  const out = [];
  const walk = dir => { order(dir.dirs).forEach(walk); order(dir.files).forEach(f => { if (f.sum.la && !(settings.hide && full(f.sum))) out.push(f.path); }); };
  walk(root);
  return out;
}
// The whole file in a strip beside the scroll bar.
function map() {
  const canvas = $('#map');
  if (!canvas || !open) return;
  const height = canvas.clientHeight, style = getComputedStyle(document.documentElement);
  canvas.height = height;
  const draw = canvas.getContext('2d'), colour = [style.getPropertyValue('--m'), style.getPropertyValue('--r'), style.getPropertyValue('--u')];
  for (const kind of [RAN, UNKNOWN, MISSED]) {
    draw.fillStyle = colour[kind];
    // Lines of one row of the screen look as one does.
    let drawn = -1;
    for (const [line, has] of open.of) {
      const y = (line - 1) * height / open.last;
      if (has.is !== kind || y < drawn + 0.5) continue;
      drawn = y;
      draw.fillRect(kind === RAN ? 8 : kind === UNKNOWN ? 5 : 0, y, kind === MISSED ? 12 : 4, Math.max(1.5, height / open.last));
    }
  }
  canvas.onclick = e => show(Math.max(1, Math.ceil(e.offsetY / height * open.last)), true);
}

// ---- panels
let back = null, panel = null;
function close() {
  if (!panel) return;
  panel.remove();
  panel = null;
  if (back && back.isConnected) back.focus({preventScroll: true});
  back = null;
}
function dialog(label, content, cls) {
  close();
  back = document.activeElement;
  panel = document.createElement('dialog');
  panel.className = cls;
  panel.setAttribute('aria-label', label);
  panel.innerHTML = content;
  document.body.append(panel);
  panel.addEventListener('cancel', e => { e.preventDefault(); close(); });
  panel.addEventListener('click', e => { if (e.target === panel) close(); });
  panel.showModal();
  return panel;
}
const X = '<button type="button" class="icon x" aria-label="Close" data-close>×</button>';
function about(line) {
  const has = open.of.get(line);
  if (!has) return;
  const list = recorded(ran(has.pair)), may = recorded(maybe(has.pair)).filter(i => !list.includes(i));
  const fn = open.functions.filter(f => f.line <= line && line <= f.last).pop();
  const item = g => '<li><span>' + esc(g.name) + '</span> <a href="' + link({who: ranges(whole(g.key)), only: false, line}) + '">only this one’s report</a></li>';
  const some = (list, title) => {
    const by = ranBy(list);
    return by.length ? '<h3>' + title + '</h3><ul class="list">' + by.slice(0, 200).map(item).join('') + '</ul>' + (by.length > 200 ? '<p class="of">and ' + num(by.length - 200) + ' more</p>' : '') : '';
  };
  const key = ranges(list);
  dialog('Line ' + line, X + '<h2>Line ' + line + ' <span class="fs ' + CLASS[has.is] + '">' + (SIGN[has.is] || '·') + ' ' + WORD[has.is] + '</span></h2>' +
    '<p class="of">' + (fn ? 'in <code>' + esc(fn.name) + '</code>' : '') + (ix.mode === 'trace' && list.length ? ' · recorded ' + num(has.count) + (has.count === 1 ? ' time' : ' times') + ' at least' : '') + '</p>' +
    (has.is === UNKNOWN ? '<p>' + UNKNOWN_WHY + '</p>' : '') +
    (has.is === MISSED ? '<p>' + (list.length ? 'None of those that are shown ran it. Others did.' : 'What was recorded shows that control did not get here.') + '</p>' : '') +
    some(list, counted(list) + ' ran it') +
    (list.length && list.length < ix.who.length ? '<p><a href="' + link({who: key, only: false, line}) + '">The report of these ' + num(ranBy(list).length) + '</a> · <a href="' + link({who: key, only: true, file: null}) + '">What only these ran</a></p>' : '') +
    some(may, 'It may have run in'), 'panel');
}
function whoPanel() {
  const box = dialog('Who ran it', X + '<h2>Who ran it</h2><p class="of">Show what some ' + kind() + 's ran. The whole report follows.</p>' +
    '<label class="only"><input type="checkbox" id="only"' + (now.only ? ' checked' : '') + '> only what no other ran</label>' +
    '<input type="search" id="wq" placeholder="Filter" aria-label="Filter the list"><ul class="list who" id="wl"></ul><p><a class="all" href="' + link({who: null, only: false}) + '">Show everything</a></p>', 'panel');
  const fill = () => {
    const q = $('#wq').value.toLowerCase();
    const hits = groups().map((g, i) => [g, i]).filter(([g]) => !q || (g.name + ' ' + g.note).toLowerCase().includes(q));
    $('#wl').innerHTML = hits.slice(0, 300).map(([g, i]) => '<li><label><input type="checkbox" data-g="' + i + '"' + (now.who !== null && g.of.every(w => now.mask[w]) ? ' checked' : '') + '> <span>' + esc(g.name) + '</span> <small class="of">' + esc(g.note) + '</small></label></li>').join('') +
      (hits.length > 300 ? '<li class="of">and ' + num(hits.length - 300) + ' more: type to find them</li>' : '');
  };
  fill();
  $('#wq').oninput = fill;
  box.addEventListener('change', e => {
    const g = e.target.dataset.g;
    let set = new Set(now.who === null ? [] : now.list);
    if (g !== undefined) groups()[g].of.forEach(i => e.target.checked ? set.add(i) : set.delete(i));
    const who = set.size && set.size < ix.who.length ? ranges([...set].sort((a, b) => a - b)) : null;
    history.pushState(null, '', link({who, only: $('#only').checked, line: now.line}));
    const kept = panel, focus = back, q = $('#wq').value;
    panel = null;
    route();
    panel = kept;
    back = focus && focus.isConnected ? focus : $('#who');
    $('#wq').value = q;
    fill();
    if (g !== undefined) { const again = $('[data-g="' + g + '"]'); if (again) again.focus(); }
    $('.all').href = link({who: null, only: false});
  });
}
const KEYS = [['/', 'find a file or a function; :120 goes to a line'], ['n p', 'next and previous line that did not run'], ['u U', 'next and previous unknown line'],
  ['e E', 'next and previous line that others ran than the one before'], ['] [', 'next and previous file'], ['i', 'who ran this line'], ['w', 'who: show what some threads ran'], ['o', 'all files'],
  ['h', 'hide what is fully covered'], ['t', 'light or dark'], ['↑ ↓ ← →', 'move in the tree, close and open'], ['Esc', 'close'], ['?', 'this list']];
function helpPanel() {
  dialog('Keys and signs', X + '<h2>Keys</h2><dl class="keys">' + KEYS.map(([k, t]) => '<dt>' + k.split(' ').map(x => '<kbd>' + esc(x) + '</kbd>').join(' ') + '</dt><dd>' + t + '</dd>').join('') + '</dl><h2>Signs</h2><dl class="keys"><dt><span class="fs r">+</span></dt><dd>ran</dd><dt><span class="fs m">−</span></dt><dd>did not run</dd><dt><span class="fs u">?</span></dt><dd>' + UNKNOWN_WHY + '</dd></dl><p class="of">Made by ' + esc(ix.tool) + '.</p>', 'panel');
}
// How well letters in order fit: at beginnings of words, in a row, near the end of a path.
function fit(q, text) {
  const t = text.toLowerCase();
  const whole = t.lastIndexOf(q);
  if (whole >= 0) return 100 + q.length * 4 - Math.min(60, t.length / 4) + (whole === 0 || /[^a-z0-9]/.test(t[whole - 1]) ? 20 : 0) + (t.length === whole + q.length ? 10 : 0);
  let score = 0, from = 0, last = -2;
  for (const c of q) {
    const i = t.indexOf(c, from);
    if (i < 0) return -1;
    score += i === last + 1 ? 4 : i === 0 || /[^a-z0-9]/.test(t[i - 1]) ? 3 : 0;
    last = i;
    from = i + 1;
  }
  return score - t.length / 20;
}
function findPanel() {
  wanted(() => {
    dialog('Find', '<input type="search" id="q" role="combobox" aria-expanded="true" aria-controls="ql" aria-autocomplete="list" aria-label="File or function" placeholder="File or function" autocomplete="off" spellcheck="false"><ul id="ql" role="listbox" aria-label="Found"></ul>', 'panel finder');
    let hits = [], on = 0;
    const fill = () => {
      const q = $('#q').value.trim().toLowerCase().replace(/\s+/g, '');
      hits = [];
      const jump = /^:(\d+)$/.exec(q);
      if (jump && open) hits.push({score: 1, name: 'line ' + jump[1], note: open.path, href: link({line: Number(jump[1])}), is: 'line'});
      else ix.files.forEach((f, i) => {
        const path = shown(i), s = q ? fit(q, path) : sums[i].lr ? 0 : -1;
        if (s >= 0) hits.push({score: s + 2, name: path, note: percent(part(sums[i].lr, sums[i].la, sums[i].partial)), href: link({file: path}), is: 'file'});
        if (q && names[i]) names[i][0].forEach((name, k) => { const s = fit(q, name); if (s > 0) hits.push({score: s, name, note: path + ':' + names[i][1][k], href: link({file: path, line: names[i][1][k]}), is: 'function'}); });
      });
      hits.sort((a, b) => b.score - a.score);
      const found = hits.length;
      hits = hits.slice(0, 60);
      on = 0;
      $('#ql').innerHTML = hits.map((h, i) => '<li role="option" id="o' + i + '" aria-selected="' + !i + '" data-i="' + i + '"><span class="kind">' + h.is + '</span><span class="fname">' + esc(h.name) + '</span><span class="of">' + esc(h.note) + '</span></li>').join('') || '<li role="option" aria-selected="false" aria-disabled="true" class="of">nothing is called so</li>';
      $('#q').setAttribute('aria-activedescendant', hits.length ? 'o0' : '');
      say(many(found, 'hit'));
    };
    const move = by => {
      if (!hits.length) return;
      $('#o' + on).setAttribute('aria-selected', 'false');
      on = (on + by + hits.length) % hits.length;
      $('#o' + on).setAttribute('aria-selected', 'true');
      $('#o' + on).scrollIntoView({block: 'nearest'});
      $('#q').setAttribute('aria-activedescendant', 'o' + on);
    };
    const take = i => { if (hits[i]) { const to = hits[i].href; close(); if (location.hash === to) route(); else location.hash = to; } };
    $('#q').oninput = fill;
    $('#q').onkeydown = e => {
      if (e.key === 'ArrowDown') move(1); else if (e.key === 'ArrowUp') move(-1); else if (e.key === 'Enter') take(on); else return;
      e.preventDefault();
    };
    $('#ql').onclick = e => { const li = e.target.closest('[data-i]'); if (li) take(Number(li.dataset.i)); };
    fill();
    $('#q').focus();
  });
}

// ---- hands
document.addEventListener('click', e => {
  const t = e.target, button = t.closest('button');
  if (t.closest('[data-close]')) { close(); return; }
  if (button && button.dataset.l) { about(Number(button.dataset.l)); return; }
  if (button && button.dataset.sort) {
    const [key, down] = settings.sort || ['name', false], k = button.dataset.sort;
    remember({sort: [k, key === k ? !down : k !== 'name']});
    overview();
    $('[data-sort="' + k + '"]').focus();
    return;
  }
  const row = t.closest('#rows tr[data-i]');
  if (row && !t.closest('a')) { twist(Number(row.dataset.i)); return; }
  const sign = t.closest('.sg');
  if (sign && sign.textContent) { about(Number(sign.parentElement.id.slice(1))); return; }
  const id = button && button.id;
  if (id === 'find') findPanel(); else if (id === 'who') whoPanel(); else if (id === 'theme') turn(); else if (id === 'help') helpPanel();
  else if (id === 'next') step(true, missed); else if (id === 'prev') step(false, missed);
  else if (id === 'more') { remember({people: true}); overview(); }
  else if (id === 'expand' || id === 'fold') {
    const walk = dir => { dir.dirs.forEach(d => { d.open = id === 'expand'; walk(d); }); dir.files.forEach(f => { if (id === 'fold') f.open = false; }); };
    walk(root);
    redraw();
  }
});
document.addEventListener('change', e => {
  if (e.target.id === 'hide' || e.target.id === 'flat') { remember({[e.target.id]: e.target.checked}); redraw(); }
});
document.addEventListener('keydown', e => {
  if (!ix || e.ctrlKey || e.metaKey || e.altKey) return;
  if (panel) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) && e.target.type !== 'checkbox') return;
  const row = e.target.closest && e.target.closest('#rows tr[data-i]');
  if (row) {
    const i = Number(row.dataset.i), r = rows[i];
    const act = {
      ArrowDown: () => at(Math.min(i + 1, rows.length - 1)), ArrowUp: () => at(Math.max(0, i - 1)), Home: () => at(0), End: () => at(rows.length - 1),
      ArrowRight: () => r.open || r.leaf ? at(Math.min(i + 1, rows.length - 1)) : twist(i, true),
      ArrowLeft: () => {
        if (r.open && !r.leaf) { twist(i, false); return; }
        for (let k = i - 1; k >= 0; k--) if (rows[k].level < r.level) { at(k); return; }
      },
      Enter: () => { if (r.href) location.hash = r.href; else twist(i); }, ' ': () => twist(i),
    }[e.key];
    if (act) { e.preventDefault(); act(); return; }
  }
  const inFile = {
    n: () => step(true, missed), p: () => step(false, missed), u: () => step(true, unsure), U: () => step(false, unsure),
    e: () => step(true, changes), E: () => step(false, changes), i: () => about(open.line),
  };
  const anywhere = {
    '/': findPanel, '?': helpPanel, w: whoPanel, t: turn, ']': () => neighbour(1), '[': () => neighbour(-1), o: () => go({file: null}),
    h: () => { remember({hide: !settings.hide}); if (!open) overview(); say(settings.hide ? 'fully covered files are hidden' : 'all files are shown'); },
  };
  const act = open && inFile[e.key] || anywhere[e.key];
  if (act) { e.preventDefault(); act(); }
});
addEventListener('resize', map);
dark.addEventListener('change', map);

function begin() {
  sets = ix.sets.map(parts);
  tree();
  document.title = ix.title + ' · rkcov';
  const brand = $('.brand');
  brand.setAttribute('aria-label', 'rkcov: all files');
  addEventListener('hashchange', route);
  route();
}
const block = document.getElementById('data-index');
if (block) rkcov.index(JSON.parse(block.textContent));
})();
