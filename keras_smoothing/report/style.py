"""The page's CSS: light, dark, for print, and for narrow screens."""

_LIGHT = """
  --paper: #fcfcfb; --card: #ffffff; --ink: #1d2329; --soft: #5b6570;
  --line: #e2e5e8; --grid: #e4e7ea; --warn: #8a4b00; --warn-paper: #fff4e0;
  --run-0: #1f6fb8; --run-1: #c8590b; --run-2: #1f8a5b; --run-3: #9a3f92;
  --run-4: #b8323f; --run-5: #6f6a10;
  --correct: #3d9a6c; --wrong: #cc4452; --abstained: #b9c0c7;
"""

_DARK = """
  --paper: #14181c; --card: #1b2026; --ink: #e6e9ec; --soft: #9aa5b0;
  --line: #2d343c; --grid: #2d343c; --warn: #ffc46b; --warn-paper: #33270f;
  --run-0: #6ab0f0; --run-1: #f59a52; --run-2: #5fcf9b; --run-3: #dc8fd5;
  --run-4: #f4808b; --run-5: #cfc84f;
  --correct: #4fb583; --wrong: #e0606d; --abstained: #59636d;
"""

STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}}
main {{ max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }}
h1 {{ font-size: 30px; line-height: 1.2; margin: 0 0 4px; }}
h2 {{ font-size: 20px; margin: 0 0 16px; }}
h3 {{ font-size: 15px; margin: 24px 0 8px; }}
h2 + h3 {{ margin-top: 0; }}
h4 {{
  font-size: 13px; font-weight: 600; color: var(--soft); margin: 16px 0 8px;
}}
p {{ margin: 0 0 12px; max-width: 46em; }}
.soft, footer {{ color: var(--soft); }}
section {{
  background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 24px; margin-top: 24px;
}}
.warning {{
  background: var(--warn-paper); color: var(--warn); border-radius: 8px;
  padding: 12px 16px; margin-top: 20px; max-width: none;
}}
.mark {{
  background: var(--warn-paper); color: var(--warn); border-radius: 4px;
  padding: 1px 6px; font-size: 12px; font-weight: 600; white-space: nowrap;
}}
.legend {{
  list-style: none; display: flex; flex-wrap: wrap; gap: 6px 28px;
  margin: 16px 0 0; padding: 0;
}}
.name {{ overflow-wrap: break-word; }}
.key {{
  width: 36px; height: 8px; margin-right: 8px; vertical-align: middle;
}}
.chart svg {{
  display: block; width: 100%; max-width: 900px; height: auto; margin: 0 auto;
}}
.chart {{ margin: 0 0 16px; }}
.chart figcaption {{ font-size: 13px; color: var(--soft); }}
svg text {{ font-family: inherit; }}
.columns {{
  display: grid; gap: 8px 40px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr));
}}
.columns > * {{ min-width: 0; }}
.wide {{ overflow-x: auto; }}
table {{
  border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums;
}}
th, td {{
  padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line);
}}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
th:last-child, td:last-child {{ padding-right: 0; }}
tbody tr:last-child > * {{ border-bottom: 0; }}
thead th {{ color: var(--soft); font-weight: 600; vertical-align: bottom; }}
tbody th {{ font-weight: 500; min-width: 9em; }}
.labels th {{ min-width: 0; }}
.labels td:last-child {{ width: 40%; }}
.labels tbody tr:last-child > * {{
  border-top: 1px solid var(--soft); font-weight: 600;
}}
.settings th, .settings td {{ text-align: left; vertical-align: top; }}
.settings tbody th {{ color: var(--soft); white-space: nowrap; }}
.settings td {{ overflow-wrap: anywhere; min-width: 11em; }}
.settings .differs td {{ font-weight: 600; }}
.bar {{
  display: flex; height: 10px; border-radius: 5px; overflow: hidden;
  min-width: 60px;
}}
.bar i, .dot {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.dot {{
  display: inline-block; width: 10px; height: 10px; border-radius: 5px;
  margin: 0 6px 0 14px;
}}
.dot:first-child {{ margin-left: 0; }}
.correct {{ background: var(--correct); }}
i.wrong {{ background: var(--wrong); }}
.abstained {{ background: var(--abstained); }}
.pictures {{
  display: grid; gap: 12px;
  grid-template-columns: repeat(
    auto-fill, minmax(max(84px, (100% - 84px) / 8), 1fr)
  );
}}
.pictures figure {{ margin: 0; break-inside: avoid; }}
.pictures img {{
  display: block; width: 100%; image-rendering: pixelated;
  border: 2px solid var(--line); border-radius: 6px;
}}
.pictures figcaption {{
  font-size: 12px; line-height: 1.35; margin-top: 4px;
  font-variant-numeric: tabular-nums;
}}
figure.wrong img {{ border-color: var(--wrong); }}
figure.wrong figcaption {{ color: var(--wrong); }}
footer {{ margin-top: 32px; font-size: 13px; }}
footer p {{ max-width: none; }}
@media (max-width: 700px) {{
  main {{ padding: 24px 12px 40px; }}
  section {{ padding: 16px; }}
  h1 {{ font-size: 24px; }}
  table {{ font-size: 13px; }}
  th, td {{ padding: 5px; }}
  tbody th {{ min-width: 6em; }}
  .key {{ width: 18px; margin-right: 6px; }}
}}
@media print {{
  @page {{ margin: 14mm; }}
  :root {{ --paper: #ffffff; }}
  body {{ font-size: 10pt; }}
  main {{ max-width: none; padding: 0; }}
  section {{ border: 0; padding: 0; margin-top: 20pt; }}
  h2, h3, h4, section > p {{ break-after: avoid; }}
  .chart, tr, .pictures, .shares, .runs, .labels {{ break-inside: avoid; }}
  .columns {{ grid-template-columns: 1fr 1fr; }}
  .settings {{ table-layout: fixed; }}
  .settings tbody th {{ white-space: normal; }}
  .wide {{ overflow: visible; }}
  table {{ font-size: 8.5pt; }}
  th, td {{ padding: 3pt 5pt; }}
  tbody th, .settings td {{ min-width: 0; }}
  .pictures {{ grid-template-columns: repeat(8, 1fr); gap: 6pt; }}
  .pictures figcaption {{ font-size: 7pt; }}
}}
"""
