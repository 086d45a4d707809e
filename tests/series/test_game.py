"""The page on which a reader makes each move of the smallest GAN."""

import pytest
from conftest import REPOSITORY

NUMBERS = "Array.from(shown, (z) => G.forward(z).y).sort((a, b) => a - b)"


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def game(request, chromium):
    width, scheme = request.param
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto((REPOSITORY / "book" / "game.html").as_uri())
    yield page
    assert page.errors == [] and len(page.asked) == 1, "it fetches nothing but itself"
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nobody scrolls sideways"
    page.close()


def press(page, button: str, times: int = 1) -> None:
    for _ in range(times):
        page.get_by_role("button", name=button, exact=True).click()


def scores(page) -> tuple[float, float]:
    return tuple(
        page.evaluate(
            "[real.slice(0, 2000), shown.map((z) => G.forward(z).y)].map((all) => mean(all.map((x) => sigmoid(D.forward(x).y))))"
        )
    )


def test_a_hundred_steps_four_times_find_both_hills(game):
    press(game, "100 steps", 4)
    numbers = game.evaluate(NUMBERS)
    near = [sum(abs(value - hill) < 1.2 for value in numbers) / len(numbers) for hill in (-2, 2)]
    assert min(near) > 0.3 and sum(near) > 0.85
    assert "D has moved 400 times, G 400 times" in game.text_content("#said")


def test_each_player_moves_alone_and_its_way(game):
    before = scores(game)
    press(game, "D moves", 20)
    after = scores(game)
    assert after[0] > before[0] and after[1] < before[1], "D tells them apart better"
    press(game, "G moves", 10)
    assert scores(game)[1] > after[1], "G goes to where D believes"
    press(game, "Start again")
    assert scores(game) == before


def test_the_three_things_to_try(game):
    press(game, "D moves", 10)
    press(game, "G moves", 40)
    assert game.evaluate(NUMBERS)[20] > 3, "off to where D has seen nothing"
    press(game, "Start again")
    press(game, "Ten moves of G for each of D, 40 times")
    numbers = game.evaluate(NUMBERS)
    assert numbers[-20] - numbers[20] < 0.5, "all in one place"
