"""Draws docs/round-light.svg and docs/round-dark.svg: one round of four clients, with numbers that add up.

    python docs/generate_round_picture.py

The numbers are worked out here, modulo 1000.  A test compares the committed pictures with this script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent

MODULUS = 1000
VALUES = {"A": 31, "B": 45, "C": 27, "D": 62}
OWN = {"A": 412, "B": 77, "C": 530, "D": 305}
"""The mask that each client has for itself."""
PAIRS = {"AB": 873, "BC": 264, "CD": 618, "DA": 205}
"""The masks that neighbours share: the first adds it, the second subtracts it."""
LOST = "C"
"""This client sends no masked value."""


@dataclass(frozen=True)
class Term:
    """One number in a client's message: its sign, and the colour of what it is."""

    sign: str
    number: int
    colour: str


def pair_terms(client: str) -> list[Term]:
    """The masks that a client shares with its two neighbours."""
    return [
        Term("+" if pair[0] == client else "\u2212", mask, pair)
        for pair, mask in PAIRS.items()
        if client in pair
    ]


def message(client: str) -> int:
    """What a client sends in MASK."""
    return (_total(pair_terms(client)) + VALUES[client] + OWN[client]) % MODULUS


def survivors() -> list[str]:
    """The clients whose masked values arrive."""
    return [client for client in VALUES if client != LOST]


def removed() -> list[Term]:
    """What the server takes off the sum of the messages: own masks, and masks shared with the lost client."""
    own = [Term("\u2212", OWN[client], "own") for client in survivors()]
    opposite = {"+": "\u2212", "\u2212": "+"}
    shared = [
        Term(opposite[term.sign], term.number, term.colour)
        for client in survivors()
        for term in pair_terms(client)
        if LOST in term.colour
    ]
    return own + shared


def total() -> int:
    """The sum that the server is left with."""
    return (sum(map(message, survivors())) + _total(removed())) % MODULUS


def _total(terms: list[Term]) -> int:
    return sum(term.number if term.sign == "+" else -term.number for term in terms)


# From here on: where things stand in the picture, in its own units, and which colours they have.

LIGHT = {
    "canvas": "#ffffff",
    "line": "#d0d7de",
    "lane": "#f6f8fa",
    "text": "#1f2328",
    "quiet": "#59636e",
    "strong": "#0b57d0",
    "on strong": "#ffffff",
    "lost": "#c62828",
    "own": "#e1e4e8",
    "AB": "#e4d7ff",
    "BC": "#ffdfb8",
    "CD": "#c5ecce",
    "DA": "#bfe3ff",
}
DARK = {
    "canvas": "#0d1117",
    "line": "#3d444d",
    "lane": "#161b22",
    "text": "#f0f6fc",
    "quiet": "#aab4bf",
    "strong": "#4493f8",
    "on strong": "#06101d",
    "lost": "#ff7b72",
    "own": "#3d444d",
    "AB": "#553a8b",
    "BC": "#7a4a0c",
    "CD": "#1d5c30",
    "DA": "#14507f",
}
PICTURES = {HERE / "round-light.svg": LIGHT, HERE / "round-dark.svg": DARK}

WIDTH, HEIGHT = 1000, 564
COLUMNS = {"ADVERTISE": 116, "SHARE": 250, "MASK": 398, "UNMASK": 826}
PHASES = {
    "ADVERTISE": ("Each client sends", "public keys."),
    "SHARE": ("Neighbours deal", "sealed shares."),
    "MASK": (
        "Each client sends its value plus masks, one of its own and",
        "one for each neighbour, modulo 1000. C vanishes before.",
    ),
    "UNMASK": ("The survivors return", "some of the shares."),
}
FIRST_LANE, LANE = 92, 62


class Picture:
    """The parts of one picture, in one set of colours."""

    def __init__(self, colours: dict[str, str]) -> None:
        self.colours = colours
        self.parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, line: str = ""
    ) -> None:
        """A rectangle with round corners."""
        stroke = f' stroke="{self.colours[line]}"' if line else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" '
            f'fill="{self.colours[fill]}"{stroke}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        colour: str = "text",
        style: str = "",
        anchor: str = "middle",
    ) -> None:
        """A line of text; ``style`` is a class of the style sheet."""
        kind = f' class="{style}"' if style else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
            f'fill="{self.colours[colour]}"{kind}>{escape(words)}</text>'
        )

    def chip(
        self,
        x: float,
        y: float,
        words: str,
        fill: str,
        colour: str = "text",
        width: float = 52,
    ) -> float:
        """A number in a coloured box; returns where the next thing goes."""
        self.box(x, y - 15, width, 30, fill)
        self.text(x + width / 2, y + 5, words, colour, "number")
        return x + width

    def sign(self, x: float, y: float, words: str) -> float:
        """A plus, minus or equals sign; returns where the next thing goes."""
        self.text(x + 12, y + 5, words, "quiet", "number")
        return x + 24

    def terms(self, x: float, y: float, terms: list[Term]) -> float:
        """Signs and numbers, one after the other; returns where the next thing goes."""
        for term in terms:
            x = self.chip(self.sign(x, y, term.sign), y, str(term.number), term.colour)
        return x

    def svg(self) -> str:
        """The whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="One round of four clients: masks hide each value, and cancel in the sum">'
        )
        style = (
            "<style>text{font:15px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
            ".small{font-size:13px}.bold{font-weight:700}.number{font-variant-numeric:tabular-nums;font-size:16px}</style>"
        )
        return "\n".join([head, style, *self.parts, "</svg>"]) + "\n"


def picture(colours: dict[str, str]) -> str:
    """The round as an SVG file."""
    drawn = Picture(colours)
    drawn.box(1, 1, WIDTH - 2, HEIGHT - 2, "canvas", "line")
    _phases(drawn)
    for row, client in enumerate(VALUES):
        _client(drawn, client, FIRST_LANE + row * LANE)
    _server(drawn, FIRST_LANE + len(VALUES) * LANE)
    return drawn.svg()


def _phases(drawn: Picture) -> None:
    for number, (phase, says) in enumerate(PHASES.items(), start=1):
        x = COLUMNS[phase]
        drawn.text(x, 30, f"{number} {phase}", style="bold", anchor="start")
        for line, words in enumerate(says):
            drawn.text(x, 52 + 18 * line, words, "quiet", "small", "start")


def _client(drawn: Picture, client: str, top: float) -> None:
    middle = top + LANE / 2
    drawn.box(12, top + 4, WIDTH - 24, LANE - 8, "lane")
    drawn.text(26, middle - 3, f"Client {client}", style="bold", anchor="start")
    drawn.text(26, middle + 16, f"value {VALUES[client]}", "quiet", "small", "start")
    drawn.text(COLUMNS["ADVERTISE"], middle + 5, "public keys \u2193", anchor="start")
    drawn.text(COLUMNS["SHARE"], middle + 5, "sealed shares \u2193", anchor="start")
    if client == LOST:
        drawn.text(
            COLUMNS["MASK"],
            middle + 5,
            "\u2717 lost: its value never arrives",
            "lost",
            "bold",
            "start",
        )
        return
    x = drawn.chip(
        COLUMNS["MASK"], middle, str(VALUES[client]), "strong", "on strong", 44
    )
    x = drawn.terms(x, middle, [Term("+", OWN[client], "own"), *pair_terms(client)])
    x = drawn.sign(x, middle, "=")
    drawn.box(x, middle - 15, 64, 30, "canvas", "text")
    drawn.text(x + 32, middle + 5, f"{message(client)} \u2193", style="number")
    drawn.text(COLUMNS["UNMASK"], middle + 5, "shares \u2193", anchor="start")


def _server(drawn: Picture, top: float) -> None:
    drawn.box(12, top + 10, WIDTH - 24, 194, "canvas", "strong")
    drawn.text(26, top + 38, "The server", "strong", "bold", "start")
    drawn.text(
        26 + 100,
        top + 38,
        "passes on keys and sealed shares, and adds what arrives in MASK. The masks that two survivors share cancel.",
        "quiet",
        "small",
        "start",
    )
    y = top + 72
    x: float = 26
    for sign, client in zip(["", "+", "+"], survivors(), strict=True):
        x = drawn.sign(x, y, sign) if sign else x
        drawn.box(x, y - 15, 52, 30, "canvas", "text")
        drawn.text(x + 26, y + 5, str(message(client)), style="number")
        x += 52
    x = drawn.sign(x, y, "=")
    sum_of_messages = sum(map(message, survivors())) % MODULUS
    drawn.text(
        x + 4,
        y + 5,
        f"{sum_of_messages} (modulo {MODULUS})",
        style="number",
        anchor="start",
    )
    drawn.text(
        26,
        top + 114,
        "From the shares of UNMASK, the server works out the masks that are left: the survivors' own masks, and those"
        " that they share with C.",
        "quiet",
        "small",
        "start",
    )
    y = top + 150
    drawn.text(26, y + 5, str(sum_of_messages), style="number", anchor="start")
    x = drawn.sign(drawn.terms(62, y, removed()), y, "=")
    x = drawn.chip(x, y, str(total()), "strong", "on strong", 56)
    values = " + ".join(str(VALUES[client]) for client in survivors())
    drawn.text(x + 10, y + 5, f"= {values}", style="number", anchor="start")
    drawn.text(26, top + 190, _legend(), "quiet", "small", "start")


def _legend() -> str:
    return "Grey: a client's own mask. Coloured: a mask that two neighbours share; one adds it, the other subtracts it."


if __name__ == "__main__":
    for path, colours in PICTURES.items():
        path.write_text(picture(colours), encoding="utf-8")
