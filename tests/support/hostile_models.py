"""Model folders as they must not be: one change of a good one, seeded."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

JSON_FILES = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**6, 10**12, 1e308, -0.5, "", "x", "../../etc/passwd", "\ud800", [], [[]], {}),
    {"a": {"b": []}},
)
TEMPLATES = (
    "",
    "{{",
    "{% for i in range(3) %}",
    "{{ messages[99].content }}",
    "{{ 1 / 0 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ raise_exception('no') }}",
    "{% include '/etc/passwd' %}",
    "{{ messages | tojson * 10 }}",
)


def _places(tree: Any, above: tuple = ()) -> list[tuple]:
    """The way to every value of a JSON tree; of a long dict or list, to the first few."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in list(items)[:40] for place in ((*above, key), *_places(value, (*above, key)))]


def _change(tree: Any, place: tuple, value: Any, rng: random.Random) -> None:
    for key in place[:-1]:
        tree = tree[key]
    if rng.random() < 0.3:
        del tree[place[-1]]
    else:
        tree[place[-1]] = value


def _weights(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    kind = rng.randrange(5)
    if kind == 0:
        content = content[: rng.randrange(len(content) + 1)]
    elif kind == 1:
        content[:8] = rng.choice([0, 1, 2**40, 2**63]).to_bytes(8, "little")
    elif kind == 2:
        place = rng.randrange(min(400, len(content)) or 1)
        content[place : place + 1] = bytes([rng.randrange(256)])
    elif kind == 3:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        name = rng.choice(list(header))
        header[name] = rng.choice([{}, [], {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 1]}])
        text = json.dumps(header).encode()
        content = bytearray(len(text).to_bytes(8, "little")) + text + content[8 + length :]
    else:
        content = bytearray(b"<html>404</html>")
    file.write_bytes(content)


def hostile_model(good: Path, folder: Path, seed: int) -> str:
    """A copy of the model folder `good` with one to three faults; says which."""
    rng = random.Random(seed)
    shutil.copytree(good, folder)
    faults = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(("value",) * 8 + ("text", "template", "weights", "missing", "index", "bytes"))
        name = rng.choice(JSON_FILES)
        file = folder / name
        if kind == "value" and file.is_file():
            try:
                tree = json.loads(file.read_text(encoding="utf-8"))
                place = rng.choice(_places(tree))
                value = rng.choice(VALUES)
                _change(tree, place, value, rng)
                file.write_text(json.dumps(tree), encoding="utf-8")
                faults.append(f"{name} {'.'.join(map(str, place))} = {value!r}")
            except (ValueError, IndexError, TypeError, RecursionError):  # an earlier fault was here
                continue
        elif kind == "text":
            file.write_text(rng.choice(["", "{", "[]", "5", "null", '"x"', "[" * 100_000, "\x00"]), encoding="utf-8")
        elif kind == "template":
            (folder / "chat_template.jinja").write_text(rng.choice(TEMPLATES), encoding="utf-8")
        elif kind == "weights" and (folder / "model.safetensors").is_file():
            with suppress(ValueError, IndexError, TypeError):  # an earlier fault was here
                _weights(folder / "model.safetensors", rng)
        elif kind == "missing":
            (folder / rng.choice((*JSON_FILES, "model.safetensors"))).unlink(missing_ok=True)
        elif kind == "index":
            index = {"metadata": {}, "weight_map": rng.choice([{}, {"x": "../../../etc/passwd"}, {"x": 5}, []])}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
            if rng.random() < 0.5:
                (folder / "model.safetensors").unlink(missing_ok=True)
        else:
            file.write_bytes(rng.randbytes(200))
        faults.append(f"{kind} {name}")
    return "; ".join(faults)
