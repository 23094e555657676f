"""The outcome of a check as JUnit XML: a case a point and metric.

A failed verdict is a failure; UNSURE, NOT_COMPARABLE and a loss that only warns are
skipped cases, which say that nothing was decided; the rest pass.
"""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from attnbench.gate.verdict import Verdict, Word

_UNDECIDED = (Word.UNSURE, Word.NOT_COMPARABLE, Word.MISSING)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(verdicts: Sequence[Verdict], suite_name: str = "attnbench check") -> str:
    """The XML text; it ends in a newline."""
    failures = sum(verdict.failed for verdict in verdicts)
    skipped = sum(_is_skipped(verdict) for verdict in verdicts)
    totals = {
        "tests": str(len(verdicts)), "failures": str(failures),
        "errors": "0", "skipped": str(skipped),
    }  # fmt: skip
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": suite_name, **totals})
    for verdict in verdicts:
        _case(suite, verdict)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, verdict: Verdict) -> None:
    names = {"classname": f"attnbench.{verdict.metric}", "name": _clean(verdict.point)}
    case = ElementTree.SubElement(suite, "testcase", names)
    message = _clean(f"{verdict.verdict}: {verdict.reason}".rstrip(": "))
    if verdict.failed:
        about = {"type": verdict.verdict.value, "message": message}
        ElementTree.SubElement(case, "failure", about).text = _figures(verdict)
    elif _is_skipped(verdict):
        ElementTree.SubElement(case, "skipped", {"message": message})


def _is_skipped(verdict: Verdict) -> bool:
    return not verdict.failed and verdict.verdict in _UNDECIDED


def _figures(verdict: Verdict) -> str:
    names = ("baseline", "current", "ratio", "ratio_low", "ratio_high", "minimum_detectable")
    found = [(name, getattr(verdict, name)) for name in names]
    return _clean("\n".join(f"{name}: {value}" for name, value in found if value is not None))


def _clean(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("?", text)
