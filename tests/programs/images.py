"""Resize images with Pillow; progress bar; returns (name, size, bytes)."""

import concurrent.futures
import io
import pathlib
import sys
import tempfile

from PIL import Image, ImageFilter, ImageOps

import atoll

SIZES = {"thumb": (64, 64), "small": (256, 256)}


def make(folder, n):
    for i in range(n):
        Image.effect_mandelbrot((640, 480), (-2, -1.5, 1, 1.5), 10 + i).convert("RGB").save(
            folder / f"{i}.png"
        )


def resize(path: pathlib.Path, out: pathlib.Path):
    with Image.open(path) as image:
        made = []
        for name, size in SIZES.items():
            copy = ImageOps.exif_transpose(image).filter(ImageFilter.GaussianBlur(1))
            copy.thumbnail(size, Image.Resampling.LANCZOS)
            target = out / f"{path.stem}-{name}.jpg"
            copy.save(target, quality=85)
            made.append((target, copy.size))
    return made


def in_memory(image):
    return image.resize((10, 10))


with tempfile.TemporaryDirectory() as folder:
    tmp = pathlib.Path(folder)
    made = []
    make(tmp, 12)
    files = sorted(tmp.glob("*.png"))
    with atoll.InterpreterPoolExecutor(2) as pool:
        for made in pool.map(resize, files, [tmp] * len(files), progress=True):
            pass
        print(made)
        image = pool.submit(in_memory, Image.open(files[0])).result()
        print(image.size, type(image))
        bad = tmp / "bad.png"
        bad.write_bytes(b"nope")
        try:
            pool.submit(resize, bad, tmp).result()
        except Exception as error:
            print(type(error), error)
            import traceback

            traceback.print_exc()
