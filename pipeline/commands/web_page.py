"""A page on this machine to drop pictures on, with Gradio, which is an extra."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.commands.own_photos import Classifier
from pipeline.core.params import UserError

HOST = "127.0.0.1"  # this machine alone: there is no password


def page(classifier: Classifier, max_pixels: int) -> Any:
    """The page: a picture in; answer, votes of the options and reasoning out. All of it plain text."""
    import gradio

    def look(path: str | None) -> tuple[str, dict[str, float], str]:
        if not path:
            return "", {}, ""
        (one,) = classifier.classify([(Path(path).name, Path(path))], max_pixels)
        draws = max(1, sum(one.draws.values()))
        return one.said(), {name: count / draws for name, count in one.draws.items()}, one.reasoning or ""

    return gradio.Interface(
        look,
        gradio.Image(type="filepath", label="Picture"),
        [
            gradio.Textbox(label="Answer"),
            gradio.Label(label="Votes among the draws", num_top_classes=classifier.asked.topk),
            gradio.Textbox(label="Reasoning", lines=6),
        ],
        title="divek",
        flagging_mode="never",
        analytics_enabled=False,
    )


def serve_page(classifier: Classifier, max_pixels: int, port: int, block: bool = True) -> Any:
    """Serves the page until it is interrupted, or gives it back at once. Raises UserError without Gradio."""
    if find_spec("gradio") is None:
        raise UserError(
            "--serve needs gradio, which is not installed; `python -m pip install --no-deps -r requirements-dev.lock` "
            "installs it beside the other versions"
        )
    shown = page(classifier, max_pixels)
    shown.launch(server_name=HOST, server_port=port or None, share=False, quiet=True, prevent_thread_lock=True)
    print(f"open {shown.local_url} in a browser; Ctrl+C ends it", flush=True)
    if block:
        shown.block_thread()
    return shown
