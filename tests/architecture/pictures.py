"""The pictures of docs/architecture.md, in both languages: `python -m tests.architecture.pictures` writes them.

A picture is a list of shapes. Texts are pairs, English and Chinese. Colours follow the reader's scheme, light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs/pictures"
LANGUAGES = ("", ".zh")
"""Ends of the names of files, before `.svg`."""
_LIGHT = "--page:#fff;--ink:#1d2430;--soft:#5b6675;--line:#8a94a3;--edge:#c3cad4"
_DARK = "--page:#11161d;--ink:#e8edf4;--soft:#a3afbf;--line:#7c899b;--edge:#3b4656"
_STYLE = f"""
:root{{{_LIGHT};--gw:#e3efff;--ct:#e6f5ea;--tr:#fdf0dc;--out:#f1f3f6;--hot:#c2410c}}
@media (prefers-color-scheme:dark){{:root{{{_DARK};
--gw:#16304f;--ct:#173a26;--tr:#46330f;--out:#1d242e;--hot:#fb923c}}}}
text{{font-family:system-ui,-apple-system,"Segoe UI","PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;
fill:var(--ink);font-size:13px}}
.page{{fill:var(--page)}}.b{{stroke:var(--edge);stroke-width:1.2}}
.gw{{fill:var(--gw)}}.ct{{fill:var(--ct)}}.tr{{fill:var(--tr)}}.out{{fill:var(--out)}}
.t{{font-weight:600}}.s{{fill:var(--soft);font-size:12px}}
.a{{fill:none;stroke:var(--line);stroke-width:1.5;marker-end:url(#tip)}}
.d{{stroke-dasharray:5 4}}.hot{{stroke:var(--hot)}}.hott{{fill:var(--hot);font-weight:600}}.tip{{fill:var(--line)}}
"""
Text = tuple[str, str]
Lines = Sequence[Text]
Points = Sequence[tuple[int, int]]


class Picture:
    """Shapes of one picture, `width` by `height` pixels; `title` is what a screen reader says."""

    def __init__(self, title: Text, width: int, height: int) -> None:
        self.title, self.width, self.height = title, width, height
        self.parts: list[tuple[str, Text]] = []

    def _add(self, markup: str, text: Text = ("", "")) -> None:
        self.parts.append((markup, text))

    def text(self, x: int, y: int, text: Text, kind: str = "s", anchor: str = "middle") -> None:
        """One line of text; `y` is its base line."""
        self._add(f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">%s</text>', text)

    def box(self, at: tuple[int, int, int, int], kind: str, title: Text, lines: Lines = ()) -> None:
        """A rectangle at (x, y, width, height) with a title and lines below it, in its middle."""
        x, y, width, height = at
        self._add(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" class="b {kind}"/>')
        top = y + (height - 18 * len(lines)) // 2 + 5
        self.text(x + width // 2, top, title, "t")
        for number, line in enumerate(lines, 1):
            self.text(x + width // 2, top + 18 * number, line)

    def arrow(self, points: Points, kind: str = "") -> None:
        """A line through the points, with a tip at its end."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self._add(f'<path d="M{path}" class="a {kind}"/>')

    def line(self, points: Points, kind: str) -> None:
        """The same without a tip."""
        path = " L".join(f"{x} {y}" for x, y in points)
        self._add(f'<path d="M{path}" class="{kind}" fill="none" stroke-width="1.5"/>')

    def svg(self, language: int) -> str:
        """The file: 0 is English, 1 Chinese."""
        shapes = "\n".join(markup % escape(text[language]) if text[0] else markup for markup, text in self.parts)
        title = escape(self.title[language])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-label="{title}">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n"
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>\n'
            f'<rect class="page" width="{self.width}" height="{self.height}" rx="10"/>\n{shapes}\n</svg>\n'
        )


def planes() -> Picture:
    """Which process talks to which, and about what."""
    made = Picture(("Planes and processes", "三个平面与各个进程"), 960, 560)
    _places(made)
    made.arrow([(210, 66), (330, 66)])
    made.text(270, 58, ("/v1/…", "/v1/…"))
    made.arrow([(630, 66), (750, 66)])
    made.text(690, 58, ("bytes pass", "字节透传"))
    made.arrow([(630, 120), (710, 120), (710, 460), (750, 460)])
    made.arrow([(330, 140), (270, 140), (270, 171), (210, 171)], "d")
    made.arrow([(210, 299), (330, 299)])
    made.text(270, 291, ("/api/v1/…", "/api/v1/…"))
    made.arrow([(420, 240), (420, 162)])
    made.text(412, 206, ("snapshot", "配置快照"), anchor="end")
    made.arrow([(530, 162), (530, 240)])
    made.text(538, 206, ("usage events", "用量事件"), anchor="start")
    made.arrow([(630, 262), (750, 262)])
    made.arrow([(630, 341), (750, 341)])
    made.arrow([(420, 436), (420, 358)])
    made.text(412, 402, ("events, checkpoints, adapters", "事件、检查点、适配器"), anchor="end")
    made.arrow([(530, 358), (530, 436)])
    made.text(538, 402, ("jobs, deployments", "任务、部署"), anchor="start")
    made.arrow([(630, 500), (750, 500)])
    made.text(690, 492, ("starts, loads", "启动、加载"))
    return made


def _places(made: Picture) -> None:
    made.box(
        (30, 40, 180, 74),
        "out",
        ("Programs", "程序"),
        [("SDKs of OpenAI, Anthropic,", "OpenAI、Anthropic、"), ("Google; curl", "Google 的 SDK，curl")],
    )
    made.box(
        (30, 262, 180, 74),
        "out",
        ("People", "使用者"),
        [("console in a browser,", "浏览器中的控制台，"), ("control's API", "控制面 API")],
    )
    made.box((330, 30, 300, 132), "gw", ("gateway (data plane)", "gateway（数据面）"), [
        ("workers, any number of machines", "任意数量的机器与工作进程"),
        ("configuration in memory, last one on disk", "配置在内存中，最近一份在磁盘上"),
        ("no database on the way of a request", "请求路径上没有数据库"),
    ])  # fmt: skip
    made.box((330, 240, 300, 118), "ct", ("control (control plane)", "control（控制面）"), [
        ("people, keys, routes, prices, ledger,", "人员、密钥、路由、价格、账本、"),
        ("audit, knowledge bases, suites", "审计、知识库、评测集"),
    ])  # fmt: skip
    made.box((330, 436, 300, 92), "tr", ("trainer (job plane)", "trainer（训练面）"), [
        ("a worker beside the GPUs; recipes are", "在 GPU 旁的工作节点；训练方案"),
        ("processes of their own; Ray, Slurm", "以独立进程运行；Ray、Slurm"),
    ])  # fmt: skip
    made.box(
        (750, 40, 180, 74),
        "out",
        ("Providers", "供应商"),
        [("OpenAI, Claude, DeepSeek,", "OpenAI、Claude、"), ("Qwen, GLM, …", "DeepSeek、通义千问、GLM")],
    )
    made.box(
        (750, 436, 180, 92),
        "tr",
        ("Engines", "推理引擎"),
        [("vLLM: base models and", "vLLM：基座模型"), ("LoRA adapters", "与 LoRA 适配器")],
    )
    made.box(
        (750, 226, 180, 62), "out", ("Database", "数据库"), [("SQLite, PostgreSQL, MySQL", "SQLite、PostgreSQL、MySQL")]
    )
    made.box((750, 310, 180, 62), "out", ("Milvus", "Milvus"), [("vectors and words", "向量与词")])
    made.box(
        (30, 140, 180, 62),
        "out",
        ("Redis (optional)", "Redis（可选）"),
        [("limits, kept answers", "共用限额、缓存的回答")],
    )


STEPS: list[tuple[str, Text]] = [
    ("1 pin", ("one configuration to its end", "全程使用同一份配置")),
    ("2 auth", ("SHA-256(key) → key", "SHA-256(密钥) → 密钥记录")),
    ("3 parse", ("model, stream; the body stays bytes", "模型、是否流式；请求体保持原样")),
    ("4 resolve", ("model → route, grants", "模型 → 路由、授权")),
    ("5 admit", ("reserve rates, tokens, budget", "预留频率、Token 与预算")),
    ("6 steps", ("guard, passages, prompt, kept answer", "护栏、检索段落、提示词、缓存")),
    ("7 dispatch", ("attempt → attempt → fallback", "尝试 → 再尝试 → 后备")),
    ("8 relay", ("blocks of whole events", "按完整事件转发")),
    ("9 settle", ("tokens, cost, limits, one event", "Token、费用、限额，一条事件")),
    ("10 finish", ("the last bytes, held for step 9", "第 9 步之后才发出的最后字节")),
]


def request() -> Picture:
    """From the client's bytes to the ledger."""
    made = Picture(("The way of a request", "一个请求的路径"), 960, 708)
    made.box((20, 24, 100, 660), "out", ("Client", "客户端"))
    made.box(
        (800, 392, 140, 152), "out", ("Upstream", "上游"), [("provider, or", "供应商，或"), ("an engine", "自有引擎")]
    )
    made.box((800, 236, 140, 70), "ct", ("Spool", "落盘队列"), [("mapped file", "内存映射文件")])
    made.box((800, 590, 140, 70), "ct", ("Ledger", "账本"), [("each event once", "每条事件恰好一次")])
    above = 0
    for number, (name, text) in enumerate(STEPS):
        gap = 44 if name in ("6 steps", "8 relay") else 14
        y = above + gap if number else 24
        if number:
            made.arrow([(535, above), (535, y)])
        made.box((390, y, 290, 46), "gw", (name, name), [text])
        above = y + 46
    made.arrow([(120, 47), (390, 47)])
    made.text(255, 39, ("POST /v1/…", "POST /v1/…"))
    made.arrow([(390, 167), (120, 167)], "d")
    made.text(255, 159, ("401, 400, 413", "401、400、413"))
    made.arrow([(390, 232), (120, 232)], "d")
    made.text(255, 224, ("404, 403, 429, 503", "404、403、429、503"))
    for y, lines in (
        (
            332,
            [
                ("admitted: one usage event will", "已受理：此后无论发生什么，"),
                ("come, whatever happens", "都恰好产生一条用量事件"),
            ],
        ),
        (482, [("commit point: from here on", "提交点：从这里开始"), ("nothing is tried again", "不再重试")]),
    ):
        made.line([(140, y), (760, y)], "hot d")
        for place, line in zip((y - 8, y + 18), lines, strict=True):
            made.text(144, place, line, "hott", "start")
    made.arrow([(680, 287), (800, 268)])
    made.text(738, 268, ("opened", "开始"))
    made.arrow([(680, 436), (800, 420)])
    made.text(740, 416, ("request", "请求"))
    made.arrow([(800, 458), (680, 458)])
    made.text(740, 474, ("held", "先不转发"))
    made.arrow([(390, 537), (120, 537)])
    made.text(255, 529, ("head, first content, …", "响应头、首个内容……"))
    made.arrow([(680, 587), (770, 587), (770, 290), (800, 290)])
    made.text(725, 579, ("settled", "已结算"))
    made.arrow([(940, 271), (952, 271), (952, 625), (940, 625)])
    made.arrow([(390, 647), (120, 647)])
    made.text(255, 639, ("last bytes", "最后的字节"))
    return made


LOOP: list[tuple[str, Text, Lines]] = [
    ("gw", ("Traffic", "真实流量"), [("a route answers programs", "路由为程序作答")]),
    ("gw", ("Request log", "请求日志"), [("redacted, sealed, for some days", "脱敏、加密，只保留若干天")]),
    ("ct", ("Dataset version", "数据集版本"), [("each row knows its request", "每一行都记录其来源请求")]),
    ("tr", ("Job", "训练任务"), [("LoRA by SFT or DPO", "LoRA：SFT 或 DPO")]),
    ("tr", ("Adapter version", "适配器版本"), [("golden prompts on the engine", "在引擎上核对基准回答")]),
    ("ct", ("Gate", "关卡"), [("a suite: not worse than before", "评测集：不差于之前的版本")]),
    ("ct", ("Canary", "逐步发布"), [("10 %, 50 %, by errors and scores", "10%、50%，看错误率与评分")]),
    ("gw", ("Route", "路由"), [("the name leads to the version", "名称指向新版本")]),
]
_PLACES = [(40, 50), (360, 50), (680, 50), (680, 200), (680, 350), (360, 350), (40, 350), (40, 200)]


def loop() -> Picture:
    """From traffic to an adapter that answers traffic."""
    made = Picture(("From traffic to an adapter, and back", "从流量到适配器，再回到流量"), 960, 470)
    for (kind, title, lines), (x, y) in zip(LOOP, _PLACES, strict=True):
        made.box((x, y, 240, 74), kind, title, lines)
    for points in (
        [(280, 87), (360, 87)], [(600, 87), (680, 87)], [(800, 124), (800, 200)], [(800, 274), (800, 350)],
        [(680, 387), (600, 387)], [(360, 387), (280, 387)], [(160, 350), (160, 274)], [(160, 200), (160, 124)],
    ):  # fmt: skip
        made.arrow(points)
    made.box(
        (370, 190, 220, 92),
        "out",
        ("People", "人"),
        [("votes side by side, ratings", "并排投票、人工评分"), ("better answers", "更好的答案")],
    )
    made.arrow([(590, 220), (636, 220), (636, 110), (680, 110)], "d")
    made.text(630, 176, ("preferences", "偏好数据"), anchor="end")
    made.arrow([(160, 424), (160, 448), (930, 448), (930, 387), (920, 387)], "hot d")
    made.text(545, 441, ("worse: taken back by itself", "变差：自动回退"), "hott")
    return made


PICTURES = {"planes": planes, "request": request, "loop": loop}


def files() -> dict[Path, str]:
    """All files and what they hold."""
    return {
        FOLDER / f"{name}{end}.svg": draw().svg(language)
        for name, draw in PICTURES.items()
        for language, end in enumerate(LANGUAGES)
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
