"""Elements are written so that text stays text, and the page cannot be given what makes a browser act."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.admin.element import el, to_html, to_json


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\n\t")),
)
def test_any_text_reads_back_as_itself(text: str, value: str) -> None:
    parser = Texts()
    parser.feed(to_html(el("p", text, title=value)))
    parser.close()
    assert parser.text == text
    assert parser.tags == [("p", [("title", value)])]


def test_the_tree_for_the_script_is_plain_json() -> None:
    tree = el("p", "a", None, "", el("span", "<b>", class_="x", data_label="y"), hidden=None)
    assert to_json(tree) == ["p", {}, "a", ["span", {"class": "x", "data-label": "y"}, "<b>"]]
    assert to_html(tree) == '<p>a<span class="x" data-label="y">&lt;b&gt;</span></p>'
    assert to_html(el("input", type="search")) == '<input type="search">'


@pytest.mark.parametrize("tag", ["script", "style", "iframe", "img", "form", "b><script"])
def test_there_are_no_tags_but_those_of_the_page(tag: str) -> None:
    with pytest.raises(ValueError, match="the page has no"):
        el(tag)


@pytest.mark.parametrize("name", ["onclick", "style", "src", "srcdoc", "x y"])
def test_there_are_no_attributes_that_act(name: str) -> None:
    with pytest.raises(ValueError, match="the page has no"):
        el("p", **{name: "x"})


@pytest.mark.parametrize("href", ["javascript:alert(1)", "https://elsewhere.example/", "data:text/html,x", ""])
def test_links_lead_nowhere_else(href: str) -> None:
    with pytest.raises(ValueError, match="does not link to"):
        el("a", "x", href=href)
    assert el("a", "x", href="/api/status").attributes == {"href": "/api/status"}
