"""Pictures that move: an animation as part of a notebook's output, without a file beside it."""

from base64 import b64encode
from collections.abc import Callable
from html import escape
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH, FINER = 480, 1.25  # pixels of the page, and how many of the picture lie on each


def moving(figure: Figure, draw: Callable[[int], object], frames: int, alt: str, seconds: float = 4.0) -> HTML:
    """`draw(i)` puts frame i into `figure`; all frames as one WebP that repeats. In print, and for readers who ask for
    less motion, it is the last frame."""
    figure.set_dpi(FINER * WIDTH / figure.get_figwidth())
    canvas, shots = FigureCanvasAgg(figure), []
    for i in range(frames):
        draw(i)
        canvas.draw()
        shots.append(PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    plt.close(figure)
    durations, texts = [round(1000 * seconds / frames)] * (frames - 1) + [2500], []
    for first, rest in ((shots[0], shots[1:]), (shots[-1], [])):
        file = BytesIO()
        options = {"save_all": True, "append_images": rest, "duration": durations} if rest else {}
        first.save(file, "webp", loop=0, quality=40, method=4, **options)
        texts.append(f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}")
    still = f'<source media="print, (prefers-reduced-motion: reduce)" srcset="{texts[1]}">'
    picture = f'<img src="{texts[0]}" alt="{escape(alt)}" width="{WIDTH}">'
    return HTML(f"<picture>{still}{picture}</picture>")
