"""The price of JPEG, on slices whose loss is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lungnode.model_folder import Decision
from lungnode.recipe import Input, Recipe
from tests.evaluated import gray_slice
from tests.toy_model import MeanGray
from trainer.compression import MOST, price_of_compression
from trainer.samples import Sample

WHOLE = MeanGray(Recipe(name="toy", input=Input(size=32, crop="paper")))


def sample(path: Path, *, positive: bool = True) -> Sample:
    return Sample("unit", path, positive, path.stem)


def test_slices_of_one_gray_lose_nothing_but_bytes(tmp_path: Path) -> None:
    samples = [sample(gray_slice(tmp_path, f"{g}.png", g), positive=g > 128) for g in (64, 192)]

    plain, best, worst = price_of_compression(WHOLE, samples, qualities=(95, 10))

    assert (plain.quality, best.quality, worst.quality) == (None, 95, 10)
    assert plain.bytes_per_slice == np.mean([s.path.stat().st_size for s in samples])
    assert [price.auc for price in (plain, best, worst)] == [1.0, 1.0, 1.0]
    assert worst.largest_change <= 5 / 255  # half a step of the mean of a block at quality 10: 80 / 8
    assert worst.other_verdicts == 0


def test_noise_costs_bytes_and_its_loss_grows_as_the_quality_falls(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)

    prices = price_of_compression(WHOLE, [sample(gray_slice(tmp_path, "1.png", noise))], qualities=(90, 20))

    sizes = [price.bytes_per_slice for price in prices]
    assert sizes == sorted(sizes, reverse=True)
    assert prices[0].largest_change == 0
    assert 0 < prices[2].mean_change == prices[2].largest_change
    assert np.isnan(prices[0].auc)  # one class


def test_a_slice_that_crosses_the_threshold_is_counted(tmp_path: Path) -> None:
    path = gray_slice(tmp_path, "64.png", 64)
    Image.open(path).save(tmp_path / "64.jpg", quality=10)
    lossy = float(np.asarray(Image.open(tmp_path / "64.jpg")).mean())
    threshold = (64 + lossy) / 2 / 255

    prices = price_of_compression(
        MeanGray(WHOLE.recipe, Decision(threshold=threshold)), [sample(path)], (10,)
    )

    assert lossy != 64
    assert [price.other_verdicts for price in prices] == [0, 1]
    assert prices[1].largest_change == pytest.approx(abs(lossy - 64) / 255, abs=1e-6)


def test_what_is_jpeg_already_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    Image.new("L", (40, 40), 90).save(path)

    assert price_of_compression(WHOLE, [sample(path)]) == []


def test_of_many_slices_some_are_taken_from_everywhere(tmp_path: Path) -> None:
    path = gray_slice(tmp_path, "1.png", 9)
    other = gray_slice(tmp_path, "2.png", 99)
    model = MeanGray(WHOLE.recipe)

    price_of_compression(model, [*[sample(path)] * 500, sample(other, positive=False)], qualities=(75,))

    assert sum(model.batches) == 2 * MOST


@pytest.mark.parametrize("count", [1, 9])
def test_every_slice_of_a_few_is_taken(tmp_path: Path, count: int) -> None:
    path = gray_slice(tmp_path, "1.png", 9)
    model = MeanGray(WHOLE.recipe)

    price_of_compression(model, [sample(path)] * count, qualities=(75, 50))

    assert sum(model.batches) == 3 * count
