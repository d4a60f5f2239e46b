"""The colours that things are drawn in: Okabe and Ito's, which colour-blind people tell apart."""

from __future__ import annotations

BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"

ORANGE, VERMILION, PURPLE, BLACK = "#E69F00", "#D55E00", "#CC79A7", "#1b1f24"
