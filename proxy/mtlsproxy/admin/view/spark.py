"""A course over time as a small picture, which says in words what it shows."""

from collections.abc import Sequence

from mtlsproxy.admin.element import Element, el

WIDTH, HEIGHT = 120, 28
_TOP, _BOTTOM = 2, HEIGHT - 1


def spark(values: Sequence[float], label: str, kind: str = "") -> Element:
    """values: oldest first. kind: a class that colours it."""
    line = _line(values)
    area = f"{line}V{HEIGHT}H0Z" if line else ""
    return el(
        "svg",
        el("path", class_="area", d=area) if area else None,
        el("path", class_="line", d=line) if line else None,
        class_=f"spark {kind}".strip(),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def _line(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"M0 {_BOTTOM}H{WIDTH}"
    highest = max(*values, 0) or 1
    step = WIDTH / (len(values) - 1)
    points = (f"{place * step:.1f} {_BOTTOM - value / highest * (_BOTTOM - _TOP):.1f}"
              for place, value in enumerate(values))  # fmt: skip
    return "M" + "L".join(points)
