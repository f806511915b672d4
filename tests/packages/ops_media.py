"""Operations of packages for pictures."""

from cases import near, package, same


@package("pillow", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFilter", "PIL.ImageFont")
def pillow():
    import io

    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    picture = Image.new("RGB", (80, 60), "navy")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((10, 10, 69, 49), fill=(250, 200, 0))
    draw.text((20, 20), "atoll", fill="black", font=ImageFont.load_default())
    small = picture.resize((40, 30), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(1))
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        memory = io.BytesIO()
        small.save(memory, kind)
        read = Image.open(io.BytesIO(memory.getvalue()))
        same((read.size, read.format), ((40, 30), kind))
        near(read.convert("L").getpixel((30, 20)), 195, 30)
    try:
        Image.open(io.BytesIO(b"no picture"))
        raise AssertionError("text was taken for a picture")
    except Image.UnidentifiedImageError:
        pass


@package("matplotlib", "matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg", seconds=240)
def matplotlib():
    import io

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1.5), dpi=50)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection=None)
    axes.plot(np.arange(5), np.arange(5) ** 2, label="$x^2$")
    axes.contourf(np.outer(np.arange(4), np.arange(4)))
    axes.tripcolor([0, 1, 0], [0, 0, 1], [1.0, 2.0, 3.0])
    axes.legend()
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    same(memory.getvalue()[:8], b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(canvas.buffer_rgba())
    same(pixels.shape, (75, 100, 4))
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20, "an empty picture"


@package("opencv-python-headless", "cv2", "numpy", seconds=180)
def opencv():
    import cv2
    import numpy as np

    picture = np.zeros((90, 120, 3), np.uint8)
    cv2.rectangle(picture, (20, 20), (60, 50), (0, 255, 0), -1)
    cv2.circle(picture, (90, 45), 15, (0, 0, 255), -1)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    _, mask = cv2.threshold(grey, 10, 255, cv2.THRESH_BINARY)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    same(len(outlines), 2)
    done, data = cv2.imencode(".png", picture)
    same((done, bool((cv2.imdecode(data, cv2.IMREAD_COLOR) == picture).all())), (True, True))
    same(cv2.GaussianBlur(cv2.resize(picture, None, fx=2, fy=2), (5, 5), 0).shape, (180, 240, 3))
    near(cv2.norm(cv2.dft(np.ones((8, 8), np.float32))), 64)
    try:
        cv2.cvtColor(grey, cv2.COLOR_BGR2GRAY)
        raise AssertionError("one channel was taken for three")
    except cv2.error as error:
        assert "scn" in str(error), error
