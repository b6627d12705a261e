"""The page's style: one column of sections, light and dark, from a phone's width to paper."""

from __future__ import annotations

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: #1a1d23; --soft: #5b6370; --rule: #dfe3e8;
  --own: #2458c5; --peer: #b45f06; --reference: #4b5563;
  --good: #12713f; --bad: #b3261e; --doubt: #8a5a00; --doubt-back: #fff6df; --bad-back: #fdf0ef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --raised: #1d2128; --ink: #e7eaef; --soft: #9ca5b3; --rule: #313843;
    --own: #7aa7ff; --peer: #f0a44b; --reference: #b3bcc9;
    --good: #5fcf8f; --bad: #ff8d85; --doubt: #f0c25a; --doubt-back: #2b2411; --bad-back: #2d1a1a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 80rem;
  background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 0 0 0.75rem; }
h3 { font-size: 0.95rem; margin: 1.25rem 0 0.5rem; }
h4 { font-size: 0.85rem; margin: 1rem 0 0.35rem; color: var(--soft); font-weight: 600; }
p { margin: 0.35rem 0; }
a { color: var(--own); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--own); outline-offset: 2px; }
section { margin-top: 2.75rem; scroll-margin-top: 1rem; }
ul { padding-left: 1.2rem; margin: 0.4rem 0; }
.facts, .note, .under, .unit, caption { color: var(--soft); }
.note, .under { font-size: 0.8rem; line-height: 1.4; }
.note { max-width: 46rem; }
.under { display: block; }
.under.good { color: var(--good); }
.under.bad { color: var(--bad); }
.unit { font-weight: 400; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; margin-top: 0.9rem; font-size: 0.85rem; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.doubtful, .flag { color: var(--doubt); }
.warning {
  background: var(--doubt-back); border-left: 3px solid var(--doubt);
  padding: 0.4rem 0.75rem; font-size: 0.88rem;
}
.badge {
  display: inline-block; padding: 0 0.4em; border: 1px solid currentColor; border-radius: 0.6em;
  font-size: 0.7rem; line-height: 1.35; font-weight: 500; letter-spacing: 0; white-space: nowrap;
  color: var(--soft); vertical-align: 0.1em;
}
.badge.peer { color: var(--peer); }
.badge.synthetic, .badge.quick, .badge.emulated, .badge.interpreter { color: var(--doubt); }
.file { font-weight: 600; }
.row-number {
  display: inline-block; min-width: 1.5em; text-align: center; border-radius: 0.3em;
  background: var(--raised); color: var(--soft); font-size: 0.75rem;
}

.verdict { font-size: 1.05rem; margin-top: 1.5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.9rem; }
.card { background: var(--raised); border-radius: 0.5rem; padding: 0.9rem 1rem; }
.card h3 { margin: 0; color: var(--soft); font-weight: 500; font-size: 0.85rem; }
.card .value { font-size: 1.75rem; font-weight: 600; line-height: 1.25; margin: 0.1rem 0; }
.card .unit { font-size: 1rem; }
.card .note { margin: 0 0 0.6rem; }
.row-label {
  display: grid; grid-template-columns: auto minmax(0, 1fr); column-gap: 0.45rem;
  align-items: baseline; line-height: 1.35; font-size: 0.88rem;
}

.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 0.5rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.81rem; line-height: 1.35; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td {
  padding: 0.42rem 0.45rem; text-align: left; vertical-align: baseline; font-weight: 400;
  border-top: 1px solid var(--rule); white-space: nowrap;
}
tbody th {
  position: sticky; left: 0; background: var(--paper); white-space: normal;
}
tbody th > div { width: max-content; max-width: 14.5rem; }
table .under { font-size: 0.87em; }
td.bad .under { white-space: normal; min-width: 6.5rem; }
.reason { color: var(--soft); }
td.reason { white-space: normal; min-width: 16rem; }
thead th { border-top: 0; background: var(--raised); padding: 0; }
.number { text-align: right; }
thead button {
  all: unset; box-sizing: border-box; display: block; width: 100%; cursor: pointer;
  padding: 0.45rem; font-weight: 600; color: var(--soft); white-space: nowrap;
}
thead button:hover { color: var(--ink); }
thead button:focus-visible { outline: 2px solid var(--own); outline-offset: -2px; }
thead button { position: relative; }
thead button::after { position: absolute; right: 0; opacity: 0.6; }
thead button:hover::after, thead button:focus-visible::after { content: "\\2195"; }
[aria-sort] button { color: var(--ink); }
thead [aria-sort="ascending"] button::after { content: "\\2191"; opacity: 1; }
thead [aria-sort="descending"] button::after { content: "\\2193"; opacity: 1; }
tbody tr:first-child > * { border-top: 0; }
tbody tr:hover, tbody tr:hover th { background: var(--raised); }
tr.failed, tr.failed th { background: var(--bad-back); }
tr:target { outline: 2px solid var(--own); outline-offset: -2px; }
.failure { border-left: 3px solid var(--bad); padding: 0.1rem 0 0.1rem 0.9rem; margin: 0.9rem 0; }
#where .failure { border-color: var(--doubt); }
details { margin: 0.75rem 0; }
summary { cursor: pointer; font-size: 0.88rem; padding: 0.25rem 0; }

svg { display: block; overflow: visible; }
.chart { list-style: none; padding: 0; margin: 0; }
.chart li {
  display: grid; grid-template-columns: minmax(9rem, 19rem) minmax(0, 1fr) 12.5rem;
  column-gap: 1rem; align-items: center; padding: 0.15rem 0;
}
.chart .figure { font-size: 0.85rem; }
.chart .symbol { font-size: 0.8rem; display: block; line-height: 1.3; }
.grid { stroke: var(--rule); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 12px; }
.target { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3; }
.mark { stroke: var(--ink); stroke-width: 2; }
.median { stroke: var(--ink); stroke-width: 2; }
.bar.own, .violin.own { fill: var(--own); }
.bar.peer, .violin.peer { fill: var(--peer); }
.violin { opacity: 0.6; }
.panels {
  display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr));
}
.panel h3 { margin-top: 0.25rem; }
.panel .plot { margin-top: 0.5rem; }
.front { list-style: none; padding: 0; margin: 0; font-size: 0.82rem; }
.key { display: flex; gap: 1.2rem; font-size: 0.82rem; color: var(--soft); }
.key svg { display: inline-block; vertical-align: -2px; }
.point { fill-opacity: 0.85; stroke: var(--paper); stroke-width: 1.5; }
.point.own { fill: var(--own); }
.point.peer { fill: var(--peer); }
.point.reference { fill: var(--reference); }
.inside { fill: var(--ink); font-size: 11px; font-weight: 600; }
.frontier { stroke: var(--soft); stroke-width: 1.5; }
.skyline { margin: 0.3rem 0; border-bottom: 1px solid var(--rule); }
.pictures {
  display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr));
}
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 0.35rem; }
figcaption { font-size: 0.82rem; margin-top: 0.35rem; line-height: 1.35; }
dl {
  margin: 0; font-size: 0.85rem; display: grid; gap: 0.3rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr));
}
dl div { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: 0.6rem; }
dt { color: var(--soft); }
dd { margin: 0; }
.skipped { font-size: 0.88rem; }

@media (max-width: 44rem) {
  body { padding-top: 1rem; }
  section { margin-top: 2.25rem; }
  .chart li {
    grid-template-columns: minmax(0, 1fr) auto; row-gap: 0.15rem; padding: 0.35rem 0;
    align-items: start;
  }
  tbody th > div { max-width: 9.5rem; }
  .chart .label { grid-column: 1; }
  .chart .figure { grid-column: 2; grid-row: 1; text-align: right; max-width: 9.5rem; }
  .chart li > svg { grid-column: 1 / -1; }
  .chart .axis { row-gap: 0; }
  .chart .axis .label { display: none; }
  .chart .axis .figure { grid-row: 2; }
  dl div { grid-template-columns: 6.5rem minmax(0, 1fr); }
}
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  :root {
    --paper: #fff; --raised: #f6f7f9; --ink: #000; --soft: #444; --rule: #ccc;
    --own: #2458c5; --peer: #b45f06; --reference: #4b5563;
    --good: #12713f; --bad: #b3261e; --doubt: #8a5a00; --doubt-back: #fff; --bad-back: #fff;
  }
  html { font-size: 12px; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  nav, thead button::after { display: none; }
  .scroll { overflow: visible; border: 0; }
  table { font-size: 6.8pt; }
  th, td, thead button { padding: 0.15rem 0.25rem; }
  tbody th { position: static; }
  tbody th > div { max-width: 10rem; }
  h2, h3, h4 { break-after: avoid; }
  tr, figure, .card, .failure, .chart li, .panel { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
