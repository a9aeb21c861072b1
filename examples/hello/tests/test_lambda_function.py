from lambda_function import lambda_handler, search_link


def test_greets_by_name():
    answer = lambda_handler({"name": "Ada"}, None)
    assert answer["greeting"] == "Hello, Ada!"
    assert "Ada" not in answer["sealed"]


def test_greets_the_world_by_default():
    assert lambda_handler({}, None)["greeting"] == "Hello, world!"


def test_links_are_quoted():
    assert search_link("a b&c") == "https://example.com/search?q=a+b%26c"
