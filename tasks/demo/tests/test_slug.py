import pytest

from slugs import slugify, unique


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello, World!", "hello-world"),
        ("  spaces   everywhere ", "spaces-everywhere"),
        ("100% sure", "100-sure"),
        ("", ""),
    ],
)
def test_plain_titles(title, slug):
    assert slugify(title) == slug


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Crème Brûlée", "creme-brulee"),
        ("Ångström units", "angstrom-units"),
        ("naïve café", "naive-cafe"),
    ],
)
def test_accented_letters_become_plain_ones(title, slug):
    assert slugify(title) == slug


def test_long_titles_are_cut():
    assert slugify("word " * 40, max_length=12) == "word-word-wo"


def test_taken_slugs_get_a_number():
    assert unique("news", {"news", "news-2"}) == "news-3"
