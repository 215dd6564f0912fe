"""A local web page that classifies pictures, with Gradio, which is an optional dependency."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.commands.photo_classifier import PhotoClassifier
from pipeline.core.params import UserError

HOST = "127.0.0.1"  # local only: there is no password
OWN_HOSTS = [HOST, "localhost"]  # by another name, a page of the web would have the browser ask this one
LARGEST_UPLOAD = 2**26  # bytes
KEPT = 600  # seconds that an uploaded picture stays; all are deleted at the end


def page(classifier: PhotoClassifier, max_pixels: int) -> Any:
    """The page: takes a picture; shows answer, votes and reasoning, all as plain text."""
    import gradio

    def look(path: str | None) -> tuple[str, dict[str, float], str]:
        if not path:
            return "", {}, ""
        (one,) = classifier.classify([(Path(path).name, Path(path))], max_pixels)
        draws = max(1, sum(one.draws.values()))
        return one.summary(), {name: count / draws for name, count in one.draws.items()}, one.reasoning or ""

    return gradio.Interface(
        look,
        gradio.Image(type="filepath", label="Picture"),
        [
            gradio.Textbox(label="Answer"),
            gradio.Label(label="Votes among the draws", num_top_classes=classifier.params.topk),
            gradio.Textbox(label="Reasoning", lines=6),
        ],
        title="divek",
        flagging_mode="never",
        analytics_enabled=False,
        delete_cache=(KEPT, KEPT),
    )


def serve_page(classifier: PhotoClassifier, max_pixels: int, port: int, block: bool = True) -> Any:
    """Serves the page until interrupted, or, without `block`, in the background. Raises UserError without Gradio."""
    if find_spec("gradio") is None:
        raise UserError(
            "--serve needs gradio, which is not installed; "
            "install it with `python -m pip install --no-deps -r requirements-dev.lock`"
        )
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    interface = page(classifier, max_pixels)
    interface.launch(
        server_name=HOST,
        server_port=port or None,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=LARGEST_UPLOAD,
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=OWN_HOSTS)]},
    )
    print(f"open {interface.local_url} in a browser; stop with Ctrl+C", flush=True)
    if block:
        interface.block_thread()
    return interface
